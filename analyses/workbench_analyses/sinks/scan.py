"""The sink scan, step by step: load, probe texts, two passes, causal check, comparison with retrieval, save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from workbench import probes
from workbench.heads import Head, HeadScores
from workbench.jobs import Job
from workbench.jsonable import digest
from workbench.models import Model
from workbench.observation import observe
from workbench.reference_models.catalogue import PLANTED
from workbench.runs import Run
from workbench.scores_io import score_files
from workbench.shards import depending
from workbench.sinks import LEAST_QUERIES, SHARE_OF_TEXT
from workbench.spreading import Gave, Unit
from workbench.tasks.needle import Assembler
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.sinks import passes
from workbench_analyses.sinks.against import against_retrieval
from workbench_analyses.sinks.causal import check_heads
from workbench_analyses.sinks.found import Found, Parked, found
from workbench_analyses.sinks.result import InText, SinkScan
from workbench_analyses.sinks.tau import check_tau
from workbench_analyses.sinks.texts import Texts, probe_texts

AT_ONCE = 4096
"""Tokens of one batch of texts."""
NEAREST = 4
"""Heads that are checked where none parks."""
SHOWN = 6
"""Heads whose received attention is shown in a text."""


def run_scan(config: ScanSinks, model: Model | None = None) -> SinkScan:
    """The whole scan; a run folder is written below `config.out`, if that is given."""
    job = Job(config, model)
    check_tau(config, job.model)
    assembler = Assembler(job.model.tokenizer, "none")
    texts = probe_texts(config, job.model, assembler)
    with job.running("scan-sinks", _question(config, texts)):
        scan = _scan(job, texts, assembler)
        job.keep(scan, files)
        return scan
    return job.part_done


def _question(config: ScanSinks, texts: Sequence[Texts]) -> dict[str, Any]:
    """With how the texts begin, whether it was said or left to the model, and what stands in the user's."""
    given = {} if config.texts is None else {"asked": digest(texts[0].tokens.tolist())}
    return {**config.question_asked(), "bos": texts[0].begun, **given}


def _scan(job: Job[ScanSinks], texts: tuple[Texts, Texts], assembler: Assembler) -> SinkScan:
    config, model = job.config, job.model
    gave = _first(job, texts)
    first = [gave[f"natural-{i}"] for i in range(len(_starts(texts[0])))]
    dims = passes.sink_dimensions(first, config.massive_least, config.massive_ratio)
    natural, random = (_found(job, t, gave, dims) for t in texts)
    parked = natural.parked(config.epsilon)
    near = not parked
    checked = parked[: config.checked] if parked else natural.parked(0.0)[: min(NEAREST, config.checked)]
    scored = job.seconds
    checks, against = (), "not validated: proof=none"
    if config.proof != "none":
        report = job.stages.stage("causal check")
        checks = check_heads(config, model, natural, checked, job.remember, report)
        against = against_retrieval(config, model, job.identity, assembler, parked, checked)
    cost = job.cost(scan_seconds=scored, proof_seconds=job.seconds - scored)
    tau = check_tau(config, model)
    ids = {s.token for f in (natural, random) for s in f.sinks} | set(natural.texts.tokens[:, 0].tolist())
    ids |= {row[0] for row in natural.phi_tokens(tau)}
    scores, companions = _scores(job, natural, random)
    return SinkScan(
        scores, companions, natural, random, parked, near, checks, against, _in_text(job, natural, checked),
        {i: _word(model, i) for i in ids}, dims, tau, "kl" if model.name in PLANTED else "loss",
        config, model.label, cost, job.path,
    )  # fmt: skip


def _starts(texts: Texts) -> list[int]:
    """The first text of each batch; it depends on nothing but the question, so that units keep their names."""
    n, length = texts.tokens.shape
    return list(range(0, n, max(1, AT_ONCE // length)))


def _batches(texts: Texts) -> list[Any]:
    starts = _starts(texts)
    return [texts.tokens[a:b] for a, b in zip(starts, [*starts[1:], len(texts.tokens)], strict=True)]


def _first(job: Job[ScanSinks], texts: Sequence[Texts]) -> dict[str, passes.Arrays]:
    """By the name of its unit, what needs nothing but texts: the first pass, the first token's rate in their beginnings."""
    units, out, report = [], {}, job.stages.stage("texts")
    for t in texts:
        for i, tokens in enumerate(_batches(t)):
            few = tokens[:, : job.config.epsilon_tokens]
            units.append(Unit(f"{t.kind}-{i}", partial(_pass, job, tokens), tokens.numel()))
            units.append(Unit(f"{t.kind}-{i}-short", partial(_rate, job.model, few), few.numel()))
    for unit, (arrays, _) in zip(units, job.spread(units), strict=True):
        out[unit.name] = arrays
        report(len(out), len(units))
    return out


def _pass(job: Job[ScanSinks], tokens: Tensor) -> Gave:
    return passes.first_pass(job.model, tokens, job.config), {}


def _rate(model: Model, tokens: Tensor) -> Gave:
    return {"rate": passes.first_token_rate(model, tokens)}, {}


def _found(job: Job[ScanSinks], texts: Texts, gave: Mapping[str, passes.Arrays], dims: list[int]) -> Found:
    names = [f"{texts.kind}-{i}" for i in range(len(_starts(texts)))]
    first, short, second = [gave[n] for n in names], [gave[f"{n}-short"]["rate"] for n in names], []
    for name, tokens in zip(names, _batches(texts), strict=True):
        rows = gave[name]["candidates"]
        unit = depending(f"{name}-rows", [rows[:, :4].astype(int), dims])  # what the pass looks at
        second.append(job.remember(unit, lambda t=tokens, r=rows: (passes.second_pass(job.model, t, r, dims), {}))[0])
    return found(texts, first, second, np.concatenate(short), _starts(texts))


def _scores(job: Job[ScanSinks], natural: Found, random: Found) -> tuple[HeadScores, dict[str, HeadScores]]:
    skipped = tuple(i for i in range(job.model.n_layers) if i not in job.model.seam.layers)
    common: dict[str, Any] = {
        "model": job.identity, "kv_heads": job.model.n_kv_heads, "skipped_layers": skipped,
        "parameters": _question(job.config, (natural.texts,)),
    }  # fmt: skip
    scores = HeadScores.from_samples(natural.first, "sinks/first_token", **common)
    others = {"random": random.first, "hidden": natural.flagged(hidden=True), "strongest": natural.received()}
    if not np.isnan(natural.learned).all():
        others["learned"] = natural.learned
    return scores, {k: HeadScores.from_samples(v, f"sinks/{k}", **common) for k, v in others.items()}


def _in_text(job: Job[ScanSinks], natural: Found, checked: Sequence[Parked]) -> InText:
    """Of the strongest heads, in the first natural text."""
    tokens = natural.texts.tokens[:1]
    best = np.argsort(-np.nan_to_num(natural.first.mean(0), nan=-1), axis=None, kind="stable")[:SHOWN]
    heads = tuple(p.head for p in checked[:SHOWN]) or tuple(Head(*divmod(int(i), job.model.n_heads)) for i in best)
    seen = observe(job.model, tokens, [probes.received(), probes.even()])
    enough = seen["even"].queries[:, :1] >= max(LEAST_QUERIES, tokens.shape[1] / SHARE_OF_TEXT)
    received = seen["received"][:, 0].where(enough, 0.0).cpu().numpy()
    sinks = {s.key: None for h in heads if (s := natural.strongest.get((0, h))) is not None}
    words = tuple(_word(job.model, i) for i in tokens[0].tolist())
    return InText(heads, words, np.stack([received[h] for h in heads]), tuple(sinks))


def _word(model: Model, token: int) -> str:
    return str(model.tokenizer.decode([token])) or str(model.tokenizer.convert_ids_to_tokens(token))


def files(scan: SinkScan, run: Run) -> None:
    """What the run gave: the published score layout, tidy tables."""
    import pandas as pd

    for name, text in score_files(scan.scores).items():
        run.write_text(name, text)
    tables = [s.to_frame().assign(method=s.method) for s in (scan.scores, *scan.companions.values())]
    run.write_table("scores.parquet", pd.concat(tables, ignore_index=True))
    run.write_table("sinks.parquet", scan.sinks_frame())
    run.write_table("checks.parquet", scan.checks_frame())
