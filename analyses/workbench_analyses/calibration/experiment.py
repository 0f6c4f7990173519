"""The experiment, step by step: load, ask, calibrate each head alone and choose, or take a list; judge it, save."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.controls import Heads, matched_lists, p_value
from workbench.errors import BadInput
from workbench.head_lists import act_list, head_list
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.paired import discordant, flips_for, mcnemar_p, sign_flip_p
from workbench.progress import Report
from workbench.runs import Run
from workbench.shards import depending
from workbench.sinks import LEAST_QUERIES, prompt_sinks
from workbench.spreading import Gave, Unit
from workbench.tasks.assembling import Assembler
from workbench.tasks.choices import ChoiceSample, choice_samples
from workbench_analyses.calibrate_heads import LEAST, CalibrateHeads
from workbench_analyses.calibration.alone import each_alone, eligible, rule_of
from workbench_analyses.calibration.asked import given_heads, list_source, tried_layers
from workbench_analyses.calibration.lists import margins_of_lists
from workbench_analyses.calibration.measured import Alone, Given, Judged, Judgement
from workbench_analyses.calibration.result import Calibration

UNIT = 32
"""Samples in a unit of work."""


@dataclass
class _Work:
    config: CalibrateHeads
    job: Job[CalibrateHeads]
    layers: tuple[int, ...]

    @property
    def model(self) -> Model:
        return self.job.model


def run_experiment(config: CalibrateHeads, model: Model | None = None) -> Calibration:
    """The whole experiment; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    model = job.model
    listed = given_heads(config, model) if config.heads else None
    layers = tried_layers(config, model, listed or ())
    samples = choice_samples(
        config.task, Assembler(model.tokenizer, config.template), config.samples, config.seed, config.score
    )
    _check(config, model, samples)
    question = {**config.question_asked(), "asked": digest([(s.prompt, s.choices, s.answer) for s in samples])}
    question |= {"list": listed} if listed else {}
    with job.running("calibrate", question) as stages:
        work = _Work(config, job, layers)
        select, hold = halves(samples, config.seed)
        if listed:
            measured: Alone | Given = _given(work, listed, hold, stages.stage("sinks"))
        else:
            measured = _alone(work, select, stages.stage("each head alone"))
        judgement = _judge(work, measured, hold, stages.stage("lists"))
        result = Calibration(
            config, model.label, job.identity, layers, model.n_layers, measured, judgement, job.cost(), job.path
        )
        job.keep(result, files)
        return result
    return job.part_done


def _check(config: CalibrateHeads, model: Model, samples: Sequence[ChoiceSample]) -> None:
    if len(samples) < LEAST:
        raise BadInput(f"task={config.task}: {len(samples)} samples; at least {LEAST} are needed, half to select heads")
    longest = max(samples, key=lambda s: len(s.prompt) + max(map(len, s.choices)))
    length = len(longest.prompt) + max(map(len, longest.choices))
    if length > model.context:
        raise BadInput(f"{longest.name}: {length} tokens; {model.name} takes {model.context}: leave it out or cut it")
    if rule_of(config).looks_at_rows and max(len(s.prompt) for s in samples) < LEAST_QUERIES:
        raise BadInput(
            f"task={config.task}: no prompt has {LEAST_QUERIES} tokens, so nothing can be a sink by rule=corrected; "
            "rule=paper looks at short prompts, too"
        )


def halves(samples: Sequence[ChoiceSample], seed: int) -> tuple[list[ChoiceSample], list[ChoiceSample]]:
    """Those that select heads and those that judge the list: fixed by what is asked, before anything is run.

    The same question, asked twice, is not in both, but for one that stands at the border.
    """
    order = sorted(samples, key=lambda s: hashlib.sha256(f"{seed} {s.prompt} {s.choices}".encode()).digest())
    return order[: len(order) // 2], order[len(order) // 2 :]


def _alone(work: _Work, samples: Sequence[ChoiceSample], report: Report) -> Alone:
    """Each head's paired effect on the selecting half, with its tests."""
    config, parts = work.config, []
    chunks = [samples[i : i + UNIT] for i in range(0, len(samples), UNIT)]
    units = [Unit(f"alone-{i}", partial(_each, work, chunk), len(chunk)) for i, chunk in enumerate(chunks)]
    for arrays, _ in work.job.spread(units):
        parts.append(arrays)
        report(len(parts), len(units))
    margin = np.concatenate([p["margin"] for p in parts])
    change, sinks = (np.concatenate([p[name] for p in parts], -1) for name in ("change", "sinks"))
    tried = _tried(work)
    moved = np.array([change[h] for h in tried])
    before, after = margin > 0, (margin + moved) > 0
    mended, spoiled = discordant(before, after)
    p, exact = sign_flip_p(moved, config.seed, flips_for(len(tried), config.level)), mcnemar_p(mended, spoiled)
    return Alone(
        tried, margin, moved, eligible(sinks, work.layers), np.array([(sinks[h] > 0).mean() for h in tried]),
        p, _corrected(p), mended, spoiled, exact, _corrected(exact), config.level,
    )  # fmt: skip


def _each(work: _Work, samples: Sequence[ChoiceSample]) -> Gave:
    return each_alone(work.config, work.model, work.layers, samples), {}


def _corrected(p: np.ndarray) -> np.ndarray:
    from scipy.stats import false_discovery_control

    return false_discovery_control(p)


def _given(work: _Work, heads: Heads, samples: Sequence[ChoiceSample], report: Report) -> Given:
    """Where a given list has something to calibrate, on the half that judges it."""
    chunks, parts = [samples[i : i + UNIT] for i in range(0, len(samples), UNIT)], []
    units = [Unit(f"sinks-{i}", partial(_sinks, work, chunk), len(chunk)) for i, chunk in enumerate(chunks)]
    for arrays, _ in work.job.spread(units):
        parts.append(arrays["sinks"])
        report(len(parts), len(units))
    sinks = np.concatenate(parts, -1) > 0
    tried = _tried(work)
    eligible = sum(int(sinks[h].sum()) for h in heads), len(heads) * len(samples)
    return Given(
        list_source(work.config, work.job.identity), heads, tried, np.array([sinks[h].mean() for h in tried]), eligible
    )


def _sinks(work: _Work, samples: Sequence[ChoiceSample]) -> Gave:
    found = prompt_sinks(work.model, [s.prompt for s in samples], rule_of(work.config))
    return {"sinks": found.sum(-1).permute(0, 2, 1).cpu().numpy()}, {}


def _tried(work: _Work) -> Heads:
    return tuple((layer, head) for layer in work.layers for head in range(work.model.n_heads))


def _judge(work: _Work, measured: Alone | Given, samples: Sequence[ChoiceSample], report: Report) -> Judgement:
    """The list, random lists with its number of heads in each layer, and all heads, on the other half."""
    config, tried = work.config, _tried(work)
    chosen = measured.heads if isinstance(measured, Given) else measured.helpful
    matched, enumerated = matched_lists(chosen, tried, config.draws, config.seed) if chosen else ([], False)
    lists: list[Heads] = [(), tried, *([chosen] if chosen else []), *matched]
    chunks, parts = [samples[i : i + UNIT] for i in range(0, len(samples), UNIT)], []
    for i, chunk in enumerate(chunks):
        unit = depending(f"lists-{i}", lists)
        parts.append(
            work.job.remember(unit, lambda c=chunk: ({"margin": margins_of_lists(config, work.model, lists, c)}, {}))[0]
        )
        report(i + 1, len(chunks))
    base, every, *rest = np.concatenate([p["margin"] for p in parts], 1)
    own = Judged.of(base, rest[0], config.seed) if chosen else None
    controls = [Judged.of(base, margin, config.seed) for margin in rest[1:]]
    p = p_value(own.gain, [c.gain for c in controls]) if own is not None and controls else None
    return Judgement(
        float((base > 0).mean()), len(base), own, controls, enumerated, p, Judged.of(base, every, config.seed)
    )


def files(result: Calibration, run: Run) -> None:
    """The table of heads, the list in two layouts."""
    import pandas as pd

    run.write_text("head_list.json", head_list(result.heads, result.about_list()))
    if not result.unlisted:
        run.write_text("head_list_act.json", act_list(result.heads, result.n_layers))
    if rows := result.rows():
        run.write_table("heads.parquet", pd.DataFrame(rows))
