"""The simulation, step by step: load, find or read the heads, read the prompts once, ask every variant, save."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.controls import Heads
from workbench.heads import HeadScores
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.policies.setting import Setting
from workbench.runs import Run, unremembered
from workbench.simulation.cases import Case
from workbench.simulation.reading_prompts import suits
from workbench.tasks.assembling import Assembler
from workbench.tasks.ruler import Row
from workbench_analyses.kv.asking import cases, check_context, check_length
from workbench_analyses.kv.heads_under_test import heads_under_test, per_query_head
from workbench_analyses.kv.measured import COSTS, QUALITY
from workbench_analyses.kv.result import Simulation
from workbench_analyses.kv.ruler_cases import answered, rows_asked
from workbench_analyses.kv.units import points
from workbench_analyses.kv.variants import left_out, variants
from workbench_analyses.kv_policies import Simulate


def run_experiment(config: Simulate, model: Model | None = None) -> Simulation:
    """The whole simulation; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    model = job.model
    suits(model)
    assembler = Assembler(model.tokenizer, config.template)
    check_context(config.context, model)
    asked, rows = cases(config, assembler), rows_asked(config, model, assembler)
    check_length(model, asked)
    given = None if config.heads is None else heads_under_test(config, model, assembler, unremembered)
    with job.running("simulate", _question(config, asked, rows, given)) as stages:
        scores = given or heads_under_test(config, model, assembler, job.remember)
        asked |= answered(config, model, assembler, rows, job.remember)
        settings = {kind: _setting(config, model, scores, group) for kind, group in asked.items()}
        chosen, refused = variants(config, settings["needle"], model)
        refused += left_out(chosen, settings)
        found = points(config, model, asked, settings, chosen, job.remember, stages.stage("policies"))
        result = Simulation(
            config, model.label, job.identity, scores, settings["needle"], found, tuple(refused), job.cost(), job.path
        )
        job.keep(result, lambda done, run: _files(done, run, rows, assembler))
    return result


def _question(
    config: Simulate, asked: Mapping[str, list[Case]], rows: Mapping[str, list[Row]], given: HeadScores | None
) -> dict[str, Any]:
    """The options, and what they stood for: prompts, scores in the file, and what is measured of each."""
    said = [[c.tokens, c.prefix, c.scored] for group in asked.values() for c in group]
    read = [row.record(0) for group in rows.values() for row in group]
    out = {**config.question_asked(), "asked": digest([said, read, QUALITY, COSTS])}
    return out if given is None else out | {"scores": digest(given.values.tolist())}


def _setting(config: Simulate, model: Model, scores: HeadScores, group: Sequence[Case]) -> Setting:
    """A budget counts at the shortest prompt, so that every policy may hold the same number of entries."""
    ranked: Heads = tuple((layer, head) for layer, head in scores.to_kv_heads().rank())
    return Setting(
        tuple(model.seam.layers), model.n_heads, model.n_kv_heads, min(c.prefix for c in group), 1.0, ranked,
        per_query_head(scores, model.n_heads), chunk=config.chunk,
    )  # fmt: skip


def _files(result: Simulation, run: Run, rows: Mapping[str, list[Row]], assembler: Assembler) -> None:
    """The table of points, every case's figures, the rows in RULER's form."""
    import pandas as pd

    run.write_json("points.json", [p.summary() for p in result.points])
    run.write_table("samples.parquet", pd.DataFrame(result.rows()))
    records = [row.record(len(row.tokens(assembler)[0])) for group in rows.values() for row in group]
    if records:
        run.write_text("ruler.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
