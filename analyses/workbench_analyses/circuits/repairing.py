"""The repair, step by step: load, ask, point the heads at their tokens, then others and elsewhere, save."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import workbench as wb
from workbench.budget import in_parts
from workbench.controls import Heads, matched_lists
from workbench.errors import BadInput
from workbench.footprint import forward_bytes, stream_bytes
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.patching import head_sets
from workbench.progress import counting
from workbench.runs import Run
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows, make_prompts
from workbench_analyses.circuits.repair_result import Arm, Repair
from workbench_analyses.repair_heads import RepairHeads, heads_of

LEVEL = 0.05


@dataclass(frozen=True)
class Aim:
    """Heads whose last row looks at some columns of each prompt (counted from its first token) and at no other."""

    heads: Heads
    columns: Sequence[Sequence[int]]


def run_repair(config: RepairHeads, model: Model | None = None) -> Repair:
    """The whole experiment; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    model, heads = job.model, heads_of(config.heads)
    head_sets(model, [heads])
    prompts = make_prompts(
        config.task, model.tokenizer, config.samples, config.seed, bos=config.bos, misfits=config.misfits
    )
    aims, enumerated = _aims(config, model, heads, prompts.prompts)
    asked = digest([p.clean for p in prompts.prompts])
    with job.running("repair-heads", {**config.question_asked(), "asked": asked}) as shown:
        report, parts = shown.stage("prompts"), []
        chunks = [range(i, min(i + config.batch, len(prompts))) for i in range(0, len(prompts), config.batch)]
        for i, which in enumerate(chunks):
            unit = f"prompts-{which.start}-{which.stop}"
            parts.append(job.remember(unit, lambda w=which: (fitting(model, prompts.prompts, w, aims), {}))[0])
            report(i + 1, len(chunks))
        arms = _arms(prompts.prompts, *(np.concatenate([p[x] for p in parts], 1) for x in ("said", "difference")))
        _check(config, model, arms[0])
        result = Repair(
            config, model.label, job.identity, heads, arms[0], arms[1], tuple(arms[2 : 2 + config.draws]),
            tuple(arms[2 + config.draws :]), enumerated, prompts.left_out, job.cost(), job.path,
        )  # fmt: skip
        job.keep(result, files)
    return result


def _aims(
    config: RepairHeads, model: Model, heads: Heads, prompts: Sequence[CircuitPrompt]
) -> tuple[list[Aim | None], bool]:
    """No edit; the heads at the labels; the heads at random tokens, and random heads at the labels, draw by draw."""
    rows = circuit_rows(prompts)
    pads = [rows.clean.shape[1] - len(p.clean) for p in prompts]
    at = [rows.at(label).tolist() for label in config.labels]  # raises for a label that a row lacks
    onto = [sorted({column - pad for column in columns}) for *columns, pad in zip(*at, pads, strict=True)]
    rng, aims = np.random.default_rng(config.seed), [None, Aim(heads, onto)]
    for _ in counting("random aims drawn", config.draws):
        aims.append(Aim(heads, [_others(rng, len(p.clean), x) for p, x in zip(prompts, onto, strict=True)]))
    every = [(i, j) for i in range(model.n_layers) for j in range(model.n_heads)]
    lists, enumerated = matched_lists(heads, every, config.draws, config.seed)
    return [*aims, *(Aim(some, onto) for some in lists)], enumerated


def _others(rng: np.random.Generator, length: int, onto: Sequence[int]) -> list[int]:
    """As many other tokens of the prompt. Raises BadInput for a prompt that has not so many."""
    free = [i for i in range(length) if i not in onto]
    if len(free) < len(onto):
        raise BadInput(f"a prompt of {length} tokens has no {len(onto)} others to look at: give fewer labels in onto=")
    return sorted(int(i) for i in rng.choice(free, len(onto), replace=False))


def fitting(
    model: Model, prompts: Sequence[CircuitPrompt], which: range, aims: Sequence[Aim | None]
) -> dict[str, np.ndarray]:
    """`answers_of`, as many prompts at a time as the memory holds."""
    n = max(len(prompts[i].clean) for i in which)
    each = forward_bytes(model, n) + stream_bytes(model, n)
    parts = in_parts(model, "repair", len(which), each, lambda rows: answers_of(model, prompts, which[rows], aims))
    return {name: np.concatenate([part[name] for part in parts], 1) for name in parts[0]}


@torch.no_grad()
def answers_of(
    model: Model, prompts: Sequence[CircuitPrompt], which: range, aims: Sequence[Aim | None]
) -> dict[str, np.ndarray]:
    """said: the likeliest next token, over the whole vocabulary; difference: logit of the answer less that of its foil.

    Both [aims, prompts]. Runs resume from the lowest layer that is edited.
    """
    rows = circuit_rows([prompts[i] for i in which]).to(model.device)
    n = rows.clean.shape[1]
    lowest = min(layer for aim in aims if aim is not None for layer, _ in aim.heads)
    resid = model.resid_pre(lowest, rows.clean, rows.mask)
    said, difference = [], []
    for aim in aims:
        edit = None if aim is None else _pointed(aim, which, [n - len(prompts[i].clean) for i in which], n)
        logits = model.forward_from(lowest, resid, rows.mask, edits=edit, keep=slice(n - 1, n)).logits[:, -1]
        answer, foil = logits.gather(1, rows.answers).double().T
        said.append(logits.argmax(-1))
        difference.append(answer - foil)
    return {"said": torch.stack(said).cpu().numpy(), "difference": torch.stack(difference).cpu().numpy()}


def _pointed(aim: Aim, which: range, pads: Sequence[int], n: int) -> wb.interventions.Edit:
    """The edit: equal weights on the columns of each row, nothing elsewhere."""
    keys: list[Iterable[int]] = [
        tuple(column + pad for column in aim.columns[i]) for i, pad in zip(which, pads, strict=True)
    ]
    weights = [[[1 / len(aim.columns[i])] * len(aim.columns[i])] for i in which]
    return wb.set_pattern(aim.heads, (n - 1,), keys, weights)


def _arms(prompts: Sequence[CircuitPrompt], said: np.ndarray, difference: np.ndarray) -> list[Arm]:
    right = said == np.array([p.answers[0] for p in prompts])
    return [Arm.of(right[0], own, moved) for own, moved in zip(right, difference, strict=True)]


def _check(config: RepairHeads, model: Model, base: Arm) -> None:
    """Raises BadInput where the model does not do the task at all, unless forced."""
    from scipy.stats import binomtest

    p = binomtest(base.preferred, base.n, 0.5, alternative="greater").pvalue
    if p > LEVEL and not config.force:
        raise BadInput(
            f"{model.name} cannot do task={config.task} (accuracy {base.accuracy:.1%}, the answer preferred to its foil "
            f"in {base.preferred} of {base.n} prompts): there is nothing to mend; force=true goes on"
        )


def files(result: Repair, run: Run) -> None:
    """Every arm as a table."""
    import pandas as pd

    run.write_table("arms.parquet", pd.DataFrame(result.rows()))
