"""The trace, step by step: load, ask, sweep the stages, ask every receiver, ablate, look for evidence, measure, save."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import chz
import numpy as np

from workbench.circuits import Circuit
from workbench.errors import BadInput, WorkbenchError
from workbench.heads import ModelIdentity
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.patching import activation_effects
from workbench.progress import Report, Stages
from workbench.runs import Remember, Run, unremembered
from workbench.scores_io import score_files
from workbench.tasks.circuit_prompts import CircuitPrompt, CircuitPrompts, CircuitTask, circuit_task, make_prompts
from workbench_analyses.circuits.ablated import REFERENCE
from workbench_analyses.circuits.behaviour import Behaviour, behaviour, check_behaviour
from workbench_analyses.circuits.entering import entering
from workbench_analyses.circuits.evidence import Evidence
from workbench_analyses.circuits.measuring import Asked, measured
from workbench_analyses.circuits.published import check_key
from workbench_analyses.circuits.result import Ablation, Trace
from workbench_analyses.circuits.roles import heads_of
from workbench_analyses.circuits.sweeps import Sweeper
from workbench_analyses.circuits.tracing import ranking, trace_edges, trace_stages
from workbench_analyses.trace_circuit import LEAST, TraceCircuit

if TYPE_CHECKING:
    from workbench.patching.replacements import How

MEASURED = 50
"""Prompts on which the quality is measured: hundreds of head sets run on each. None of them found the circuit."""


@dataclass
class Work:
    """What every step needs. free: pairs whose corrupted prompts ask for neither answer; None where the task has none."""

    config: TraceCircuit
    model: Model
    task: CircuitTask
    corruption: str
    prompts: CircuitPrompts
    free: CircuitPrompts | None
    remember: Remember

    @classmethod
    def of(cls, config: TraceCircuit, model: Model) -> Work:
        """Make the prompts. Raises BadInput for what this tokenizer cannot ask."""
        task = circuit_task(config.task)
        corruption = config.corruption or task.corruptions[0]
        prompts = _prompts(config, model, corruption)
        free = None
        if task.foil_free:
            same = corruption in task.foil_free
            free = prompts if same else _prompts(config, model, task.foil_free[0])
        return cls(config, model, task, corruption, prompts, free, unremembered)


def run_trace(config: TraceCircuit, model: Model | None = None) -> Trace:
    """The whole trace; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    work = Work.of(config, job.model)
    if config.key is not None:
        check_key(config.key, job.model, config.task)
    found = behaviour(job.model, work.prompts.prompts, config.batch)
    check_behaviour(found, job.model.name, config.task, config.force)
    every = (*work.prompts.prompts, *(work.free.prompts if work.free else ()))
    asked = digest([(p.clean, p.corrupted, p.answers) for p in every])
    with job.running("trace-circuit", {**config.question_asked(), "asked": asked}) as shown:
        work.remember = job.remember
        result = replace(_traced(work, found, job.identity, shown), cost=job.cost(), path=job.path)
        job.keep(result, files)
    return result


def _prompts(config: TraceCircuit, model: Model, corruption: str) -> CircuitPrompts:
    options = {"corruption": corruption, "bos": config.bos, "misfits": config.misfits}
    extra = {"names": config.names, "folder": config.folder} if config.task == "ioi" else {}
    made = make_prompts(config.task, model.tokenizer, config.samples, config.seed, **options, **extra)
    longest = max(len(p.clean) for p in made.prompts)
    if longest > model.context:
        raise BadInput(f"task={config.task}: prompts of {longest} tokens; {model.name} takes {model.context}")
    return made


def _traced(work: Work, found: Behaviour, identity: ModelIdentity, shown: Stages) -> Trace:
    config, model, gaps = work.config, work.model, found.gaps
    sweeper = Sweeper(config, model, work.prompts, work.remember)
    stages, choices = trace_stages(sweeper, gaps, shown.stage("stages"))
    edges = trace_edges(sweeper, gaps, stages, shown.stage("edges")) if config.edges else []
    ablation = _ablated(work, shown.stage("ablation"))
    evidence = Evidence(model, work.prompts.prompts, config.batch, config.seed)
    heads = heads_of(stages, evidence, config.tau, work.task.roles)
    needed = () if ablation is None else ablation.heads(config.tau)
    circuit = Circuit(
        identity, model.n_layers, model.n_heads, config.task, work.corruption, len(work.prompts),
        float(found.clean.mean()), float(found.corrupted.mean()), found.accuracy,
        tuple(s.stage for s in stages if s.heads(config.tau)), tuple(heads), tuple(edges), needed, ranking(stages),
        {"tau": config.tau, "follow": config.follow, "mlps": config.mlps, "seed": config.seed},
    )  # fmt: skip
    trace = Trace(config, model.label, circuit, found, stages, choices, ablation, None, work.prompts.left_out, {})
    if config.quality == "none" or not circuit.nodes:
        return trace
    return replace(trace, **_measured(work, circuit, shown))


def _measured(work: Work, circuit: Circuit, shown: Stages) -> dict[str, Any]:
    """The quality, or why there is none: a trace of hours is not lost for it."""
    try:
        return {"quality": measured(_asked(work), circuit, shown.stage("quality"))}
    except Exception as error:  # memory, disk, prompts that cannot be drawn: whatever it is, the report says it
        if os.environ.get("WORKBENCH_DEBUG") == "1":
            traceback.print_exc()
        reason = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        return {"unmeasured": " ".join(reason.split())}


def _asked(work: Work) -> Asked:
    """What the quality is measured on: methods rank heads by prompts of the trace, circuits are run on others."""
    config, how = work.config, cast("How", work.config.ablation)
    corruption = work.task.foil_free[0] if work.task.foil_free else work.corruption
    judged = _apart(work, corruption, MEASURED, 1)
    return Asked(
        work.model, work.prompts.prompts[:MEASURED], None if work.free is None else work.free.prompts[:MEASURED], judged,
        how, config.seed, config.batch, config.memory, work.remember,
        _reference(work, corruption, judged) if how == "mean" else None,
    )  # fmt: skip


def _apart(work: Work, corruption: str, n: int, step: int) -> tuple[CircuitPrompt, ...]:
    """Prompts of another seed than the trace's."""
    config = chz.replace(work.config, samples=max(n, LEAST), seed=work.config.seed + step)
    return _prompts(config, work.model, corruption).prompts[:n]


def _reference(work: Work, corruption: str, judged: Sequence[CircuitPrompt]) -> tuple[CircuitPrompt, ...]:
    """Prompts drawn apart from these, enough of every template of theirs for a mean."""
    templates = {p.template for p in judged}
    many = REFERENCE * len(templates)
    while True:
        made = _apart(work, corruption, many, 2)
        counts = Counter(p.template for p in made)
        if min(counts[t] for t in templates) >= REFERENCE:
            return made
        many *= 2


def _ablated(work: Work, report: Report) -> Ablation | None:
    """Each head's output, everywhere, from a prompt that asks for neither answer; shares are of the clean difference."""
    if work.free is None:
        return None
    config, model, parts = work.config, work.model, []
    chunks = [range(i, min(i + config.batch, len(work.free))) for i in range(0, len(work.free), config.batch)]
    for i, which in enumerate(chunks):
        rows = work.free.rows(which).to(model.device)

        def effects(rows=rows) -> np.ndarray:
            out = activation_effects(
                model, rows.clean, rows.corrupted, rows.answers, attention_mask=rows.mask,
                memory=config.memory,
            )  # fmt: skip
            return out.double().cpu().numpy()

        parts.append(
            np.asarray(
                work.remember(f"ablation-{which.start}-{which.stop}", lambda e=effects: ({"effects": e()}, {}))[0][
                    "effects"
                ]
            )
        )
        report(i + 1, len(chunks))
    clean = behaviour(model, work.free.prompts, config.batch).clean
    found = np.concatenate(parts)
    return Ablation(found, clean, entering(found, -clean, config.seed))


def files(result: Trace, run: Run) -> None:
    """The circuit, its heads as a table, effects prompt by prompt, the ranking as scores."""
    run.write_text("circuit.json", result.circuit.json())
    run.write_text("heads.csv", result.circuit.csv())
    run.write_tensors("effects.safetensors", result.effects())
    for name, text in score_files(result.scores).items():
        run.write_text(name, text)
