"""The sink scan, step by step: load, probe texts, two passes, causal check, comparison with retrieval, save."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import backends, probes
from workbench.cost import peak_memory
from workbench.heads import Head, HeadScores, ModelIdentity
from workbench.models import Model, load
from workbench.observation import observe
from workbench.progress import Stages, progress
from workbench.reference_models.catalogue import PLANTED
from workbench.runs import Remember, Run, unremembered
from workbench.scores_io import score_files
from workbench.sinks import LEAST_QUERIES, SHARE_OF_TEXT
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


@dataclass
class _Work:
    """What every step of one scan needs."""

    config: ScanSinks
    model: Model
    identity: ModelIdentity
    remember: Remember
    stages: Stages


def run_scan(config: ScanSinks, model: Model | None = None) -> SinkScan:
    """The whole scan; a run folder is written below `config.out`, if that is given."""
    started = time.perf_counter()
    model = model or load(config.model, config.dtype, config.device, config.trust_remote_code)
    backends.demand(config.backend, model.device)
    check_tau(config, model)
    assembler = Assembler(model.tokenizer, "none")
    texts = probe_texts(config, model, assembler)
    identity = ModelIdentity(model.name, *model.identity())
    question = {**config.question(), "identity": [identity.config_hash, identity.weights]}
    backend, opened = backends.in_words(config.backend, model.device), nullcontext()
    if config.out:
        opened = Run.open(config.out, "scan-sinks", model.name, question, model.label, backend)
    with backends.used(model, config.backend), opened as run, progress() as stages:
        work = _Work(config, model, identity, run.remember if run else unremembered, stages)
        scan = _scan(work, texts, assembler, started, run)
        if run is not None:
            save(scan, run)
            for warning in run.warnings:
                stages.note(f"note: {warning}")
    return scan


def _scan(work: _Work, texts: tuple[Texts, Texts], assembler: Assembler, started: float, run: Run | None) -> SinkScan:
    config, model = work.config, work.model
    firsts = [_first(work, t) for t in texts]
    dims = passes.sink_dimensions(firsts[0], config.massive_least, config.massive_ratio)
    natural, random = (_found(work, t, first, dims) for t, first in zip(texts, firsts, strict=True))
    parked = natural.parked(config.epsilon)
    near = not parked
    checked = parked[: config.checked] if parked else natural.parked(0.0)[: min(NEAREST, config.checked)]
    scored = time.perf_counter()
    checks, against = (), "not validated: proof=none"
    if config.proof != "none":
        report = work.stages.stage("causal check")
        checks = check_heads(config, model, natural, checked, work.remember, report)
        against = against_retrieval(config, model, work.identity, assembler, parked, checked)
    ended = time.perf_counter()
    cost = {"scan_seconds": scored - started, "proof_seconds": ended - scored, "peak_memory_mib": peak_memory()}
    if run is not None:
        cost["unit_seconds"] = run.seconds()
    tau = check_tau(config, model)
    ids = {s.token for f in (natural, random) for s in f.sinks} | set(natural.texts.tokens[:, 0].tolist())
    ids |= {row[0] for row in natural.phi_tokens(tau)}
    scores, companions = _scores(work, natural, random)
    return SinkScan(
        scores, companions, natural, random, parked, near, checks, against, _in_text(work, natural, checked),
        {i: _word(model, i) for i in ids}, dims, tau, "kl" if model.name in PLANTED else "loss",
        config, model.label, cost, str(run.path) if run else None,
    )  # fmt: skip


def _starts(texts: Texts) -> list[int]:
    """The first text of each batch; it depends on nothing but the question, so that units keep their names."""
    n, length = texts.tokens.shape
    return list(range(0, n, max(1, AT_ONCE // length)))


def _batches(texts: Texts) -> list[Any]:
    starts = _starts(texts)
    return [texts.tokens[a:b] for a, b in zip(starts, [*starts[1:], len(texts.tokens)], strict=True)]


def _first(work: _Work, texts: Texts) -> list[passes.Arrays]:
    out, batches, report = [], _batches(texts), work.stages.stage(f"{texts.kind} texts")
    for i, tokens in enumerate(batches):
        unit = f"{texts.kind}-{i}"
        out.append(work.remember(unit, lambda t=tokens: (passes.first_pass(work.model, t, work.config), {}))[0])
        report(i + 1, len(batches))
    return out


def _found(work: _Work, texts: Texts, first: Sequence[passes.Arrays], dims: list[int]) -> Found:
    second, short = [], []
    for i, tokens in enumerate(_batches(texts)):
        rows = first[i]["candidates"]
        unit, few = f"{texts.kind}-{i}-rows", tokens[:, : work.config.epsilon_tokens]
        second.append(work.remember(unit, lambda t=tokens, r=rows: (passes.second_pass(work.model, t, r, dims), {}))[0])
        unit = f"{texts.kind}-{i}-short"
        short.append(work.remember(unit, lambda t=few: ({"rate": passes.first_token_rate(work.model, t)}, {}))[0])
    return found(texts, first, second, np.concatenate([s["rate"] for s in short]), _starts(texts))


def _scores(work: _Work, natural: Found, random: Found) -> tuple[HeadScores, dict[str, HeadScores]]:
    skipped = tuple(i for i in range(work.model.n_layers) if i not in work.model.seam.layers)
    common: dict[str, Any] = {
        "model": work.identity, "kv_heads": work.model.n_kv_heads, "skipped_layers": skipped,
        "parameters": work.config.question(),
    }  # fmt: skip
    scores = HeadScores.from_samples(natural.first, "sinks/first_token", **common)
    others = {"random": random.first, "hidden": natural.flagged(hidden=True), "strongest": natural.received()}
    if not np.isnan(natural.learned).all():
        others["learned"] = natural.learned
    return scores, {k: HeadScores.from_samples(v, f"sinks/{k}", **common) for k, v in others.items()}


def _in_text(work: _Work, natural: Found, checked: Sequence[Parked]) -> InText:
    """Of the strongest heads, in the first natural text."""
    tokens = natural.texts.tokens[:1]
    best = np.argsort(-np.nan_to_num(natural.first.mean(0), nan=-1), axis=None, kind="stable")[:SHOWN]
    heads = tuple(p.head for p in checked[:SHOWN]) or tuple(Head(*divmod(int(i), work.model.n_heads)) for i in best)
    seen = observe(work.model, tokens, [probes.received(), probes.even()])
    enough = seen["even"].queries[:, :1] >= max(LEAST_QUERIES, tokens.shape[1] / SHARE_OF_TEXT)
    received = seen["received"][:, 0].where(enough, 0.0).cpu().numpy()
    sinks = {s.key: None for h in heads if (s := natural.strongest.get((0, h))) is not None}
    words = tuple(_word(work.model, i) for i in tokens[0].tolist())
    return InText(heads, words, np.stack([received[h] for h in heads]), tuple(sinks))


def _word(model: Model, token: int) -> str:
    return str(model.tokenizer.decode([token])) or str(model.tokenizer.convert_ids_to_tokens(token))


def save(scan: SinkScan, run: Run) -> None:
    """Write what the run gave: the published score layout, tidy tables, the report, the record."""
    import pandas as pd

    for name, text in score_files(scan.scores).items():
        run.write_text(name, text)
    tables = [s.to_frame().assign(method=s.method) for s in (scan.scores, *scan.companions.values())]
    run.write_table("scores.parquet", pd.concat(tables, ignore_index=True))
    run.write_table("sinks.parquet", scan.sinks_frame())
    run.write_table("checks.parquet", scan.checks_frame())
    run.write_text("report.html", scan.report())
    run.finish(scan.summary(), scan.cost)
