"""The fit, step by step: errors of every window in one pass, windows by tolerance, each rule checked end to end."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.heads import HeadScores
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.policies.setting import Setting
from workbench.runs import Run, unremembered
from workbench.scores_io import score_files
from workbench.simulation.cases import Case
from workbench.simulation.reading_prompts import suits
from workbench.smallest_windows import grid, smallest
from workbench.tasks.assembling import Assembler
from workbench_analyses.fit_windows import FitWindows
from workbench_analyses.kv.asking import cases, check_context, check_length
from workbench_analyses.kv.heads_under_test import heads_under_test, per_query_head
from workbench_analyses.windows.checking import checked
from workbench_analyses.windows.fitting import median_errors
from workbench_analyses.windows.result import FittedWindows
from workbench_analyses.windows.rules import rules


def run_experiment(config: FitWindows, model: Model | None = None) -> FittedWindows:
    """The whole fit; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    suits(job.model)
    assembler, checking = Assembler(job.model.tokenizer, config.template), config.checking()
    check_context(checking.context, job.model)
    fitted_on = cases(config.fitting(), assembler)["needle"]
    asked = cases(checking, assembler)
    check_length(job.model, {**asked, "fit": fitted_on})
    windows = grid(config.context, config.least)
    given = None if config.heads is None else heads_under_test(checking, job.model, assembler, unremembered)
    with job.running("fit-windows", _question(config, asked, fitted_on, given)) as stages:
        report = stages.stage("prompts fitted on")
        work = lambda: ({"errors": median_errors(job.model, fitted_on, config, windows, report)}, {})  # noqa: E731
        errors = np.asarray(job.remember("errors", work)[0]["errors"])
        scores = given or heads_under_test(checking, job.model, assembler, job.remember)
        worst = errors.max(0)
        assigned = {
            t: smallest(worst, windows, config.context, t, job.model.n_kv_heads) for t in config.tolerances
        }  # fmt: skip
        settings = {kind: _setting(job.model, scores, group) for kind, group in asked.items()}
        every, refused = rules(
            assigned, config.sink, config.least, config.context, config.draws, config.seed, settings
        )  # fmt: skip
        checks = checked(job, every, asked, settings, stages.stage("checks"))
        result = FittedWindows(
            config, job.model.label, job.identity, windows, dict(zip(config.at, errors, strict=True)), assigned, scores,
            settings["needle"], checks, tuple(refused), job.cost(), job.path,
        )  # fmt: skip
        job.keep(result, save)
    return result


def _question(
    config: FitWindows, asked: dict[str, list[Case]], fitted_on: list[Case], given: HeadScores | None
) -> dict[str, Any]:
    """The options, and what they stood for: prompts, scores in the file."""
    groups = [*asked.values(), fitted_on]
    said = digest([[c.tokens, c.prefix, c.scored] for group in groups for c in group])
    out = {**config.question_asked(), "asked": said}
    return out if given is None else {**out, "scores": digest(given.values.tolist())}


def _setting(model: Model, scores: HeadScores, group: list[Case]) -> Setting:
    """Shares count at the shortest prompt, as in a simulation."""
    ranked = tuple((layer, head) for layer, head in scores.to_kv_heads().rank())
    return Setting(
        tuple(model.seam.layers), model.n_heads, model.n_kv_heads, min(c.prefix for c in group), 1.0, ranked,
        per_query_head(scores, model.n_heads),
    )  # fmt: skip


def save(result: FittedWindows, run: Run) -> None:
    """Windows as scores, so that `workbench export RUN` takes them; errors, checks."""
    for name, text in score_files(result.scores).items():
        run.write_text(name, text)
    run.write_json("checks.json", [check.summary() for check in result.checks])
    run.write_tensors("errors.safetensors", result.errors)
