"""The work of the retrieval scan: units of needles, scores, proof, run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from workbench_kernels import Reductions

from workbench import heads as currency
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.interventions import reference
from workbench.interventions.mask import ABLATIONS
from workbench.models import Model, load
from workbench.probes.repeats import RepeatScores, repeat_scores
from workbench.probes.retrieval import SampleScore, score_block
from workbench.runs import Run
from workbench.scores_io import score_files
from workbench.stopping import Decision, decide
from workbench.tasks.needle import Assembler, Block, blocks, read_needles
from workbench.validation import Ablation, Validation, validate
from workbench_analyses.retrieval_heads import ScanHeads

LEAST = 5
"""Accepted samples below which a copy score is not said."""
PROOF_SAMPLES = 16
PROOF_LENGTH = 256
DRAWS = {"default": (20, 10), "full": (199, 199)}
STEPS = (1, 2, 3, 4, 6)
ARRAYS = ("distinct", "raw", "mass", "statement_mass")


@dataclass(frozen=True)
class TokenWeights:
    """Where one head looks at the step that produces an answer's first token."""

    head: currency.Head
    words: list[str]
    weights: np.ndarray
    answer: tuple[int, int]


@dataclass(frozen=True)
class Scan:
    """Scores of all heads, their proof, and what it took."""

    scores: HeadScores
    companions: dict[str, HeadScores]
    samples: list[dict[str, Any]]
    repeats: RepeatScores
    validation: Validation | None
    decision: Decision | None
    config: ScanHeads
    model_label: str
    template: str
    view: TokenWeights | None
    cost: dict[str, float]
    path: str | None = None

    @property
    def accepted(self) -> int:
        """Samples that the model answered."""
        return sum(s["accepted"] for s in self.samples)

    @property
    def verdict(self) -> str:
        """The finding in a line; what was not found comes first."""
        n = len(self.samples)
        if self.accepted < LEAST:
            best = float(np.nanmax(self.repeats.induction))
            induction = f"no induction head (max {best:.2f})" if best < 0.1 else f"best induction head {best:.2f}"
            return f"not scored: {self.accepted} of {n} answered; {induction}"
        found = self.scores.at_least(self.config.threshold)
        share = f"{len(found)} of {self.scores.values.size} heads score ≥ {self.config.threshold:g}"
        return f"{share} ({self.accepted} of {n} samples answered); {self._proved()}"

    def _proved(self) -> str:
        v = self.validation
        if v is None:
            return "not validated"
        if v.p is None:
            return "no layer-matched control exists for this list: not validated"
        weak = "NOT shown to be more harmful than matched random heads"
        word = "masking them hurts more than matched random heads" if v.p <= 0.05 else weak
        return f"{word} (p = {v.p:.3f}, area {v.area:.2f}, n = {v.n})"

    def summary(self) -> dict[str, Any]:
        """The scan as plain values."""
        top, (low, high) = self.scores.top(10), self.scores.interval()
        rows = [
            {"layer": h.layer, "head": h.head, "score": float(self.scores.values[h]), "low": float(low[h]),
             "high": float(high[h]), "induction": float(self.repeats.induction[h]), "echo": float(self.repeats.echo[h])}
            for h in top
        ]  # fmt: skip
        return {
            "model": self.model_label, "verdict": self.verdict, "samples": len(self.samples),
            "accepted": self.accepted, "top": rows if self.scores.n else [],
            "retrieval_heads": self.scores.at_least(self.config.threshold).to_json(),
            "always_on": self.scores.always_on().to_json(),
            "decoded_share": float(np.mean([s["decoded"] for s in self.samples])),
            "template": self.template, "repeat_k": self.repeats.k, "repeat_accuracy": self.repeats.accuracy,
            "stopped": None if self.decision is None else self.decision.__dict__,
            "validation": self.validation.to_json() if self.validation else "not validated",
            "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.retrieval.view import terminal

        return terminal(self)


def run_scan(config: ScanHeads, model: Model | None = None) -> Scan:
    """Load, ask, observe, score, prove, save."""
    started = time.perf_counter()
    if config.ablation not in ABLATIONS:
        raise BadInput(f"ablation={config.ablation}: use {', '.join(ABLATIONS)}")
    needles = read_needles(config.needles) if config.needles else None
    model = model or load(config.model, config.dtype, config.device, config.trust_remote_code)
    if max(config.lengths) + 8 > model.context:
        longest = model.context - 8
        raise BadInput(
            f"lengths={max(config.lengths)}: {model.name} takes {model.context} tokens; set lengths={longest}"
        )
    assembler = Assembler(model.tokenizer, config.template)
    identity = currency.ModelIdentity(model.name, *model.identity())
    question = {**config.question(), "identity": [identity.config_hash, identity.weights]}
    opened = Run.open(config.out, "scan-heads", model.name, question, model.label) if config.out else nullcontext()
    with opened as run, _progress() as bar:
        scan = _scan(config, model, assembler, identity, needles, run, bar, started)
        if run is not None:
            save(scan, run)
    return scan


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _scan(
    config: ScanHeads, model: Model, assembler: Assembler, identity: Any, needles: Any, run: Run | None,
    bar: Progress, started: float,
) -> Scan:  # fmt: skip
    total = config.rounds * len(config.lengths)
    task = bar.add_task("needles", total=total)
    stops = _stops(model)
    units = blocks(
        assembler, config.lengths, config.depths, config.rounds, config.seed, needles=needles, haystack=config.haystack
    )
    samples, decision, done = [], None, run.done() if run else set()
    arrays: dict[str, list[np.ndarray]] = {a: [] for a in ARRAYS}
    reached = 0
    for block in units:
        if run and block.name in done:
            unit, meta = run.load(block.name)
            rows = meta["samples"]
        else:
            unit, rows = _unit(model, block, stops)
            if run:
                run.save(block.name, unit, {"samples": rows})
        samples += rows
        for a in ARRAYS:
            arrays[a].append(unit[a])
        bar.advance(task)
        reached += 1
        if config.until is not None and reached % len(config.lengths) == 0:
            keep = np.array([s["accepted"] for s in samples])
            names = tuple(s["needle"] for s in samples if s["accepted"])
            decision = decide(np.concatenate(arrays["distinct"])[keep], names, config.threshold, config.until)
            if decision.stop:
                break
    bar.update(task, total=reached, completed=reached)
    scored = time.perf_counter()
    repeats = repeat_scores(model, min(model.context, max(config.lengths)), config.seed)
    scores = _scores(config, model, identity, samples, arrays, repeats)
    validation = _proof(config, model, assembler, needles, scores["distinct"], bar)
    view = _token_weights(model, scores["distinct"], next(_fresh(config, assembler, needles)).samples[-1])
    ended = time.perf_counter()
    cost = {"scan_seconds": scored - started, "proof_seconds": ended - scored, "peak_memory_mib": peak_memory()}
    primary = scores.pop("distinct")
    path = str(run.path) if run else None
    return Scan(
        primary,
        scores,
        samples,
        repeats,
        validation,
        decision,
        config,
        model.label,
        assembler.template,
        view,
        cost,
        path,
    )


def _stops(model: Model) -> set[int]:
    """Tokens that end an answer: end of text, a newline, and the task's own full stop."""
    text = model.tokenizer("a .\n", add_special_tokens=False)["input_ids"][1:]
    dots = model.tokenizer("a.", add_special_tokens=False)["input_ids"][1:]
    return {*model.stop_tokens, *text, *dots}


def _unit(model: Model, block: Block, stops: set[int]) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    scored: list[SampleScore] = score_block(model, block, stops)
    arrays = {a: np.stack([getattr(s, a) for s in scored]) for a in ARRAYS}
    rows = [
        {"unit": block.name, "length": x.cell[0], "depth": x.cell[1], "reached": x.depth, "needle": x.needle,
         "kind": x.kind, "tokens": len(x.tokens), "accepted": s.accepted, "recall": s.recall, "exact": s.exact,
         "decoded": s.decoded, "response": model.tokenizer.decode(s.response)}
        for x, s in zip(block.samples, scored, strict=True)
    ]  # fmt: skip
    return arrays, rows


def _scores(
    config: ScanHeads, model: Model, identity: Any, samples: list[dict[str, Any]], arrays: dict[str, list[np.ndarray]],
    repeats: RepeatScores,
) -> dict[str, HeadScores]:  # fmt: skip
    keep = np.array([s["accepted"] for s in samples])
    groups = tuple(s["needle"] for s in samples if s["accepted"])
    skipped = tuple(i for i in range(model.n_layers) if i not in model.seam.layers)
    common: dict[str, Any] = {"model": identity, "kv_heads": model.n_kv_heads, "skipped_layers": skipped}
    out = {}
    mass = np.concatenate(arrays["mass"])[keep]
    enough = keep.sum() >= LEAST
    for a in ARRAYS:
        each = np.concatenate(arrays[a])[keep]
        values = each.mean(0) if enough else np.full((model.n_layers, model.n_heads), np.nan)
        tiebreak = mass.mean(0) if enough and a == "distinct" else None
        out[a] = HeadScores(
            values, f"retrieval/{a}", config.question(), per_sample=each if enough else None,
            groups=groups if enough else None, tiebreak=tiebreak, **common,
        )  # fmt: skip
    for name in ("echo", "induction", "previous"):
        out[name] = HeadScores(getattr(repeats, name), f"repeats/{name}", {"k": repeats.k}, **common)
    return out


def _fresh(config: ScanHeads, assembler: Assembler, needles: Any) -> Iterator[Block]:
    """Units whose needles the scan has not seen."""
    length = [min(PROOF_LENGTH, max(config.lengths))]
    return blocks(
        assembler, length, config.depths, PROOF_SAMPLES + 1, config.seed + 10_000, needles=needles,
        haystack=config.haystack,
    )  # fmt: skip


@torch.no_grad()
def _token_weights(model: Model, scores: HeadScores, sample: Any) -> TokenWeights | None:
    if not scores.n:
        return None
    head, n = scores.top(1).heads[0], len(sample.tokens)
    want = Reductions(rows=torch.tensor([[n - 1]]), top_k=n)
    tokens = torch.tensor([sample.tokens], device=model.device)
    stats = model.forward(tokens, reductions=lambda layer, mask: want if layer == head.layer else None).statistics
    values, indices = stats[head.layer].top_values, stats[head.layer].top_indices
    assert values is not None and indices is not None
    weights = torch.zeros(n).scatter(0, indices[0, head.head, 0].cpu(), values[0, head.head, 0].float().cpu())
    words = [str(model.tokenizer.decode([t])) for t in sample.tokens]
    return TokenWeights(head, words, weights.numpy(), sample.spans["answer"])


def _proof(
    config: ScanHeads, model: Model, assembler: Assembler, needles: Any, scores: HeadScores, bar: Progress
) -> Validation | None:
    if config.proof == "none" or not scores.n:
        return None
    draws, free = DRAWS[config.proof]
    length, samples = min(PROOF_LENGTH, max(config.lengths)), []
    fresh = _fresh(config, assembler, needles)
    while len(samples) < PROOF_SAMPLES:
        samples += next(fresh).samples
    prose = torch.tensor([next(fresh).haystack[: length // 2] for _ in range(1)], device=model.device)
    source = reference(model, prose, config.ablation) if config.ablation in ("mean", "resample") else None
    found = len(scores.at_least(config.threshold))
    ks = sorted({*STEPS, *({found} if found else set())})
    task = bar.add_task("proof", total=None)
    return validate(
        model, scores, samples[:PROOF_SAMPLES], ks, draws, free, cast(Ablation, config.ablation), config.seed,
        config.batch, prose,
        source, config.proof, lambda text: bar.update(task, description=text),
    )  # fmt: skip


def peak_memory() -> float:
    """Peak resident size of this process in MiB."""
    import resource
    import sys

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)


def save(scan: Scan, run: Run) -> None:
    """Write what the run gave: the published score layout, tidy tables, the report, the record."""
    import pandas as pd

    from workbench_analyses.retrieval.view import report

    if scan.scores.n:
        for name, text in score_files(scan.scores).items():
            run.write_text(name, text)
    tables = [s.to_frame().assign(method=s.method) for s in (scan.scores, *scan.companions.values())]
    run.write_table("scores.parquet", pd.concat(tables, ignore_index=True))
    run.write_table("samples.parquet", pd.DataFrame(scan.samples))
    run.write_text("report.html", report(scan))
    run.finish(scan.summary(), scan.cost)
