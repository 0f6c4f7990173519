"""Recall with more and more of a list's heads full, on the same needles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from workbench.budget import in_parts
from workbench.controls import Heads
from workbench.exporters.cutting import Cutting
from workbench.exporters.split import split
from workbench.geometry import fitted
from workbench.heads import HeadScores
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.needle_recall import SEEDS, far_needles
from workbench.policies.scheme import Scheme
from workbench.policies.setting import Setting
from workbench.policies.streaming import streaming
from workbench.progress import Report
from workbench.runs import Run
from workbench.scores_io import read_scores
from workbench.simulation.cases import Case, of_sample
from workbench.simulation.reading_prompts import suits
from workbench.simulation.sizes import bytes_of_case
from workbench.tasks.assembling import Assembler
from workbench_analyses.choose_cut import ChooseCut
from workbench_analyses.cuts.result import Cuts
from workbench_analyses.kv.asking import Chunk, check_length


def run_experiment(config: ChooseCut, model: Model | None = None, given: HeadScores | None = None) -> Cuts:
    """The whole measurement; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    suits(job.model)
    source = fitted(given, job.model)[0] if given is not None else read_scores(str(config.run), model=job.model)
    window = {"sink_size": config.sink_size, "recent_size": config.recent_size}
    how = Cutting.of(source, {**window, "unscored": "full", "query_heads": job.model.n_heads})
    scores = split(source, "kv", how).scores
    asked = _needles(job, how)
    said = {"scores": digest(scores.ranking.tolist()), "window": [how.sink_size, how.recent_size]}
    question = {**config.question_asked(), **said, "asked": digest([c.tokens for c in asked])}
    with job.running("choose-cut", question) as stages:
        ks = lengths(len(scores.rank()))
        told = _told(job, asked, [_full(scores, k) for k in ks], how, stages.stage("cuts"))
        result = Cuts(config, job.model.label, job.identity, source, scores, how, ks, told, job.cost(), job.path)
        job.keep(result, save)
    return result


def _needles(job: Job, how: Cutting) -> list[Case]:
    """The same for every cut, outside the window of streaming heads."""
    own, assembler = job.config, Assembler(job.model.tokenizer)
    samples = far_needles(assembler, own.context, own.seed + SEEDS[1], own.samples, how.sink_size, how.recent_size)
    asked = [of_sample(sample, question_seen=True) for sample in samples]
    check_length(job.model, {"needle": asked})
    return asked


def lengths(most: int) -> tuple[int, ...]:
    """Lengths of list that are asked: every one up to 4, then half again as many, and all."""
    out = [k for k in range(5) if k < most]
    while out and out[-1] * 3 // 2 < most and out[-1] >= 4:
        out.append(out[-1] * 3 // 2)
    return (*out, most)


def _full(scores: HeadScores, k: int) -> Heads:
    """The best k heads, and those without a score."""
    return (*((int(i), int(j)) for i, j in np.argwhere(~scores.scored)), *scores.rank()[:k])


def _told(
    job: Job, asked: list[Case], lists: list[Heads], how: Cutting, report: Report
) -> Float[np.ndarray, "lists needles"]:
    """1 where greedy decoding says the whole answer, with these heads full: prompts are read once for all lists."""
    schemes, parts = [_scheme(job, full, how, min(c.prefix for c in asked)) for full in lists], []
    for start in range(0, len(asked), job.config.batch):
        report(start, len(asked))
        group = asked[start : start + job.config.batch]
        unit = f"needles-{start}-{digest([c.tokens for c in group])[:8]}"
        work = lambda g=group: ({"recall": _ask(job.model, g, schemes)}, {})  # noqa: E731
        parts.append(np.asarray(job.remember(unit, work)[0]["recall"]))
    report(len(asked), len(asked))
    return np.concatenate(parts, 1)


def _ask(model: Model, group: list[Case], schemes: list[Scheme]) -> Float[np.ndarray, "lists needles"]:
    def some(rows: slice) -> Float[np.ndarray, "lists needles"]:
        chunk = Chunk(model, group[rows])
        return np.stack([chunk.ask(scheme)["quality"][:, 0] for scheme in schemes])

    return np.concatenate(in_parts(model, "simulation", len(group), bytes_of_case(model, group), some), 1)


def _scheme(job: Job, full: Heads, how: Cutting, tokens: int) -> Scheme:
    own, model = job.config, job.model
    setting = Setting(
        tuple(model.seam.layers), model.n_heads, model.n_kv_heads, tokens, 1.0, full, None, own.prefill, own.chunk
    )
    return streaming(setting, setting.full(len(full)), how.sink_size, how.recent_size)


def save(result: Cuts, run: Run) -> None:
    """The curve as a table of numbers."""
    run.write_json("curve.json", result.summary()["curve"])
