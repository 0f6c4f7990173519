"""The simulation, step by step: load, find or read the heads, read the prompts once, ask every variant, save."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.controls import Heads
from workbench.heads import HeadScores
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.policies.setting import Setting
from workbench.progress import Report
from workbench.runs import Remember, Run, unremembered
from workbench.simulation.cases import Case
from workbench.simulation.reading_prompts import suits
from workbench.tasks.assembling import Assembler
from workbench_analyses.kv.asking import Chunk, cases, check_length
from workbench_analyses.kv.heads_under_test import heads_under_test, per_query_head
from workbench_analyses.kv.measured import Point
from workbench_analyses.kv.result import Simulation
from workbench_analyses.kv.variants import Variant, controls, variants
from workbench_analyses.kv_policies import Simulate


@dataclass
class _Gathered:
    """Parts of a variant, chunk by chunk."""

    quality: dict[str, list[np.ndarray]] = field(default_factory=dict)
    costs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    controls: list[np.ndarray] = field(default_factory=list)


def run_experiment(config: Simulate, model: Model | None = None) -> Simulation:
    """The whole simulation; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    model = job.model
    suits(model)
    assembler = Assembler(model.tokenizer, config.template)
    asked = cases(config, assembler)
    check_length(model, asked)
    given = None if config.heads is None else heads_under_test(config, model, assembler, unremembered)
    with job.running("simulate", _question(config, asked, given)) as stages:
        scores = given or heads_under_test(config, model, assembler, job.remember)
        settings = {kind: _setting(config, model, scores, group) for kind, group in asked.items()}
        chosen, refused = variants(config, settings["needle"])
        points = _points(config, model, asked, settings, chosen, job.remember, stages.stage("policies"))
        result = Simulation(
            config, model.label, job.identity, scores, settings["needle"], points, tuple(refused), job.cost(), job.path
        )
        job.keep(result, files)
    return result


def _question(config: Simulate, asked: dict[str, list[Case]], given: HeadScores | None) -> dict[str, Any]:
    """The options, and what they stood for: prompts, scores in the file."""
    said = [[c.tokens, c.prefix, c.scored] for group in asked.values() for c in group]
    out = {**config.question_asked(), "asked": digest(said)}
    return out if given is None else out | {"scores": digest(given.values.tolist())}


def _setting(config: Simulate, model: Model, scores: HeadScores, group: list[Case]) -> Setting:
    """A budget counts at the shortest prompt, so that every policy may hold the same number of entries."""
    ranked: Heads = tuple((layer, head) for layer, head in scores.to_kv_heads().rank())
    return Setting(
        tuple(model.seam.layers), model.n_heads, model.n_kv_heads, min(c.prefix for c in group), 1.0, ranked,
        per_query_head(scores, model.n_heads), chunk=config.chunk,
    )  # fmt: skip


def _points(
    config: Simulate, model: Model, asked: dict[str, list[Case]], settings: dict[str, Setting], chosen: list[Variant],
    remember: Remember, report: Report,
) -> list[Point]:  # fmt: skip
    """Chunk by chunk, so that the prompts of one chunk are held at a time."""
    gathered = {variant: _Gathered() for variant in chosen}
    size = config.batch
    parts = [(kind, group[i : i + size]) for kind, group in asked.items() for i in range(0, len(group), size)]
    for place, (kind, group) in enumerate(parts):
        chunk = Chunk(model, group)
        for done, variant in enumerate(chosen):
            report(place * len(chosen) + done, len(parts) * len(chosen))
            unit = f"{variant.unit}-{kind}-{digest([c.tokens for c in group])[:8]}"
            arrays, _ = remember(unit, lambda v=variant, c=chunk, k=kind: (_ask(config, v, c, settings[k], k), {}))
            mine = gathered[variant]
            mine.quality.setdefault(kind, []).append(arrays["quality"])
            mine.costs.setdefault(kind, []).append(arrays["costs"])
            if kind == "needle":
                mine.controls.append(arrays["controls"])
    report(len(parts) * len(chosen), len(parts) * len(chosen))
    return [_point(config, variant, gathered[variant], settings["needle"]) for variant in chosen]


def _ask(config: Simulate, variant: Variant, chunk: Chunk, setting: Setting, kind: str) -> dict[str, np.ndarray]:
    """One unit: the variant, and with needles its random lists, [lists, cases] of recall."""
    found = chunk.ask(variant.scheme(setting))
    drawn = controls(variant, setting, config.draws, config.seed) if kind == "needle" else []
    recalls = [chunk.ask(variant.scheme(other))["quality"][:, 0] for other in drawn]
    return {**found, "controls": np.array(recalls).reshape(len(drawn), len(chunk.batch.cases))}


def _point(config: Simulate, variant: Variant, found: _Gathered, setting: Setting) -> Point:
    quality, costs = ({k: np.concatenate(v) for k, v in t.items()} for t in (found.quality, found.costs))
    drawn = np.concatenate(found.controls, 1)
    means = tuple(drawn.mean(1).tolist()) if drawn.size else ()
    return Point(
        variant.text, variant.budget, variant.prefill, variant.policy.exact, dict(variant.scheme(setting).constants),
        quality, costs, means, config.seed,
    )  # fmt: skip


def files(result: Simulation, run: Run) -> None:
    """The table of points, every case's figures."""
    import pandas as pd

    run.write_json("points.json", [p.summary() for p in result.points])
    run.write_table("samples.parquet", pd.DataFrame(result.rows()))
