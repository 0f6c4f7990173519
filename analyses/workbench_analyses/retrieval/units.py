"""Units of the scan: blocks of needles scored one by one, until the list of heads is stable or the grid is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.heads import HeadScores, ModelIdentity
from workbench.models import Model
from workbench.probes.repeats import RepeatScores
from workbench.probes.retrieval import score_block
from workbench.progress import Report
from workbench.spreading import Gave, Unit
from workbench.stopping import Decision, decide
from workbench.tasks.needle import Assembler, Block, Needle, blocks
from workbench_analyses.retrieval_heads import ScanHeads

LEAST = 5
"""Accepted samples below which a copy score is not said."""
ANSWERED = ("distinct", "raw", "mass", "statement_mass")
ARRAYS = (*ANSWERED, "qrhead")
"""Scores of a sample; those of ANSWERED count where the model answered, the last one everywhere."""


@dataclass(frozen=True, eq=False)
class Units:
    """What the finished units gave: one row per sample, arrays [samples, layers, heads], the stop rule's decision."""

    rows: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]
    decision: Decision | None

    @property
    def accepted(self) -> np.ndarray:
        """Which samples the model answered."""
        return np.array([row["accepted"] for row in self.rows])


def score_units(
    config: ScanHeads,
    model: Model,
    units: Iterator[Block],
    stops: set[int],
    spread: Callable[[Iterable[Unit]], Iterator[Gave]],
    report: Report,
) -> Units:
    """Score the units in order. Looks at the stop rule after each round, and so at the same places always.

    spread: who does them (see `Job.spread`); a part of them is done without a look at the rule.
    """
    rows: list[dict[str, Any]] = []
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
    decision = None
    asked = (Unit(b.name, partial(_score, model, b, stops), sum(len(s.tokens) for s in b.samples)) for b in units)
    for reached, (arrays, meta) in enumerate(spread(asked), 1):
        rows += meta["samples"]
        for name in ARRAYS:
            parts[name].append(arrays[name])
        report(reached, config.rounds * len(config.prompt_lengths))
        if config.until is not None and reached % len(config.prompt_lengths) == 0:
            decision = _decide(config, np.concatenate(parts["distinct"]), rows)
            if decision.stop:
                break
    return Units(rows, {name: np.concatenate(each) for name, each in parts.items()}, decision)


def grid(config: ScanHeads, assembler: Assembler, needles: list[Needle] | None) -> Iterator[Block]:
    """The ordered list of units that the scan goes through."""
    return blocks(
        assembler, config.prompt_lengths, config.depths, config.rounds, config.seed, needles=needles,
        haystack=config.haystack,
    )  # fmt: skip


def _decide(config: ScanHeads, distinct: np.ndarray, rows: list[dict[str, Any]]) -> Decision:
    keep = np.array([row["accepted"] for row in rows])
    names = tuple(row["needle"] for row in rows if row["accepted"])
    assert config.until is not None
    return decide(distinct[keep], names, config.threshold, config.until)


def _score(model: Model, block: Block, stops: set[int]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    scored = score_block(model, block, stops)
    arrays = {name: np.stack([getattr(s, name) for s in scored]) for name in ARRAYS}
    rows = [
        {"unit": block.name, "length": x.cell[0], "depth": float(x.cell[1]), "reached": x.depth, "needle": x.needle,
         "kind": x.kind, "tokens": len(x.tokens), "accepted": s.accepted, "recall": s.recall, "exact": s.exact,
         "decoded": s.decoded, "response": model.tokenizer.decode(s.response), **asdict(s.ties)}
        for x, s in zip(block.samples, scored, strict=True)
    ]  # fmt: skip
    return arrays, {"samples": rows}


def head_scores(
    config: ScanHeads,
    model: Model,
    identity: ModelIdentity,
    units: Units,
    repeats: RepeatScores,
    null_query: str | None,
) -> dict[str, HeadScores]:
    """`distinct` (the score), those beside it, which need answers too, `qrhead`, and those of repeated tokens."""
    keep = units.accepted
    enough = int(keep.sum()) >= LEAST
    skipped = tuple(i for i in range(model.n_layers) if i not in model.seam.layers)
    common: dict[str, Any] = {"model": identity, "kv_heads": model.n_kv_heads, "skipped_layers": skipped}
    scored: dict[str, Any] = {"parameters": config.question_asked(), **common}
    if enough:
        scored["groups"] = tuple(row["needle"] for row in units.rows if row["accepted"])
    out, tie = {}, units.arrays["mass"][keep].mean(0) if enough else None
    for name in ANSWERED:
        each, method = units.arrays[name][keep], f"retrieval/{name}"
        if enough:
            tiebreak = tie if name == "distinct" else None
            out[name] = HeadScores.from_samples(each, method, tiebreak=tiebreak, **scored)
        else:
            out[name] = HeadScores(np.full(each.shape[1:], np.nan), method, **scored)
    asked = {"parameters": {**config.question_asked(), "null_query": null_query}, **common}
    asked["groups"] = tuple(row["needle"] for row in units.rows)
    out["qrhead"] = HeadScores.from_samples(units.arrays["qrhead"], "retrieval/qrhead", **asked)
    for name in ("echo", "induction", "previous"):
        out[name] = HeadScores(getattr(repeats, name), f"repeats/{name}", {"k": repeats.k}, **common)
    return out
