"""The retrieval scan, step by step: load, ask, observe, score, prove, save."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import torch

from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.probes.near_ties import TIE
from workbench.probes.repeats import repeat_scores
from workbench.probes.retrieval import decoding_agreement
from workbench.runs import Run
from workbench.scores_io import score_files
from workbench.tasks.needle import Assembler, Needle, answer_ends, read_haystack, read_needles
from workbench_analyses.retrieval.looks import Looks, looks_at_answer, whole_maps
from workbench_analyses.retrieval.proof import prove, unseen
from workbench_analyses.retrieval.result import Scan
from workbench_analyses.retrieval.units import ARRAYS, grid, head_scores, score_units
from workbench_analyses.retrieval_heads import ScanHeads

SHORT = 96
"""Tokens of the sample whose whole maps are drawn."""
CHECKED = 8
"""Samples that a half-precision model is also decoded on, token by token."""


@dataclass
class _Work:
    """What every step of one scan needs."""

    config: ScanHeads
    job: Job[ScanHeads]
    assembler: Assembler
    needles: list[Needle] | None
    stops: set[int]

    @property
    def model(self) -> Model:
        """The scanned model."""
        return self.job.model


def run_scan(config: ScanHeads, model: Model | None = None) -> Scan:
    """The whole scan; a run folder is written below `config.out`, if that is given."""
    needles = read_needles(config.needles) if config.needles else None
    job = Job(config, model)
    _check_context(config, job.model)
    assembler = Assembler(job.model.tokenizer, config.template)
    with job.running("scan-heads", _question(config, needles)):
        stops = answer_ends(job.model.tokenizer, job.model.stop_tokens, needles)
        scan = _scan(_Work(config, job, assembler, needles, stops))
        job.keep(scan, files)
        return scan
    return job.part_done


def _question(config: ScanHeads, needles: list[Needle] | None) -> dict[str, Any]:
    """With what stands in the user's files: units of files that have changed since are others, whatever their names."""
    question = {**config.question_asked(), "scores": ARRAYS, "near_ties": TIE}
    if needles is None and not config.haystack:
        return question
    haystack = read_haystack(config.haystack) if config.haystack else []
    return {**question, "asked": digest([[astuple(n) for n in needles or ()], haystack])}


def _check_context(config: ScanHeads, model: Model) -> None:
    longest = model.context - 8  # the answer needs room
    if max(config.prompt_lengths) > longest:
        asked = f"lengths={max(config.lengths)}" if config.lengths else f"context={config.context}"
        key = asked.partition("=")[0]
        raise BadInput(f"{asked}: {model.name} takes {model.context} tokens; set {key}={longest} or less")


def _scan(work: _Work) -> Scan:
    config, model = work.config, work.model
    units = score_units(
        config, model, grid(config, work.assembler, work.needles), work.stops, work.job.spread,
        work.job.stages.stage("needles"),
    )  # fmt: skip
    repeats = repeat_scores(model, min(model.context, max(config.prompt_lengths)), config.seed)
    scores = head_scores(config, model, work.job.identity, units, repeats, work.assembler.null_query)
    primary = scores.pop("distinct")
    agreement = _agreement(work)
    scored = work.job.seconds
    proved = prove(config, model, work.assembler, work.needles, primary, work.stops, work.job.remember, work.job.stages)
    looks, maps = _looks(work, primary)
    cost = work.job.cost(scan_seconds=scored, proof_seconds=work.job.seconds - scored)
    return Scan(
        primary, scores, units.rows, repeats, proved, units.decision, config, model.label, work.assembler.template,
        agreement, looks, maps, cost, work.job.path,
    )  # fmt: skip


def _agreement(work: _Work) -> tuple[int, int] | None:
    """In half precision the one forward and token-by-token decoding round differently: say how often they agree."""
    if work.model.dtype == torch.float32:
        return None
    samples = [s for unit in unseen(work.config, work.assembler, work.needles) for s in unit.samples][:CHECKED]
    return decoding_agreement(work.model, samples, work.stops)


def _looks(work: _Work, scores: HeadScores) -> tuple[Looks | None, Looks | None]:
    """Rows of a long sample and whole maps of a short one; the user's needles may leave no room for the latter."""
    if not scores.n:
        return None, None
    long = next(unseen(work.config, work.assembler, work.needles)).samples[-1]
    try:
        short = next(unseen(work.config, work.assembler, work.needles, SHORT)).samples[0]
    except BadInput:
        return looks_at_answer(work.model, scores, long), None
    return looks_at_answer(work.model, scores, long), whole_maps(work.model, scores, short)


def files(scan: Scan, run: Run) -> None:
    """What the run gave: the published score layout, tidy tables."""
    import pandas as pd

    if scan.scores.n:
        for name, text in score_files(scan.scores).items():
            run.write_text(name, text)
    if scan.companions["qrhead"].scored.any():
        run.write_json("qrhead.json", scan.companions["qrhead"].to_json())
    tables = [s.to_frame().assign(method=s.method) for s in (scan.scores, *scan.companions.values())]
    run.write_table("scores.parquet", pd.concat(tables, ignore_index=True))
    run.write_table("samples.parquet", pd.DataFrame(scan.samples))
