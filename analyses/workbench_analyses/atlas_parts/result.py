"""The result of an atlas: one side, or two to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import BadInput, did_you_mean
from workbench.head_metrics import HeadMetrics, Metric, Text
from workbench.heads import Head, HeadScores
from workbench.reported import OfCommand
from workbench_analyses.atlas import COMMAND, Atlas
from workbench_analyses.atlas_parts.side import Score, Side

if TYPE_CHECKING:
    from pandas import DataFrame

LISTED = ("retrieval", "repeats_induction", "repeats_echo", "previous", "first", "visual")
"""Scores whose best heads the verdict names, in this order."""


@dataclass(frozen=True, eq=False, repr=False)
class HeadAtlas(OfCommand):
    """Every score of every head. also: the second model, where one was given. path: the run folder."""

    typed = COMMAND

    side: Side
    also: Side | None
    config: Atlas
    model_label: str
    cost: dict[str, float]
    path: str | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        """One or two models."""
        return (self.side,) if self.also is None else (self.side, self.also)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of the scores, those without sinks with `/without sinks` behind."""
        return tuple(s.key for s in self.side.scores)

    def score(self, name: str) -> HeadScores:
        """A score of the (first) model. Raises BadInput, with the nearest, for an unknown one."""
        if name not in self.keys:
            raise BadInput(f"no score {name!r}: use {', '.join(self.keys)}.{did_you_mean(name, self.keys)}")
        return self.side.head_scores(name, self.config.question_asked())

    @property
    def primary(self) -> HeadScores:
        """The score that serving formats are cut by: retrieval, or induction where no needle was told."""
        known = [s.key for s in self.side.scores if not np.isnan(s.estimate.values).all()]
        return self.score(next(k for k in ("retrieval", "repeats_induction", "induction", *known) if k in known))

    @property
    def verdict(self) -> str:
        """The best head of some scores, in a line."""
        said = [f"{s.measure.title} {best(s)[0]}" for k in LISTED for s in self.side.scores if s.key == k and best(s)]
        missing = f"; left out: {', '.join(self.side.left_out)}" if self.side.left_out else ""
        layers, heads = self.side.shape
        return f"{len(self.keys)} scores of {layers * heads:,} heads: {', '.join(said)}{missing}; not validated"

    def to_frame(self) -> DataFrame:
        """One row a model, head and score: layer, head, kv_head, metric, version, value, low, high, n."""
        import pandas as pd

        return pd.concat([_frame(side) for side in self.sides], ignore_index=True)

    def metrics(self, which: int = 0) -> HeadMetrics:
        """The scores of a model with their texts, for HeadVis and others."""
        side = self.sides[which]
        metrics = [
            Metric(s.key, s.title, s.measure.help, s.estimate.values, s.measure.headvis if s.version == "raw" else None)
            for s in side.scores
        ]  # fmt: skip
        held = side.sequences
        texts = [] if held is None else [
            Text(held.words[i], held.keys[i], held.weights[i].astype(np.float32)) for i in range(len(held.words))
        ]  # fmt: skip
        c = self.config
        about = {
            "dataset_name": c.texts or "generated",
            "n_sequences": c.samples,
            "seq_len": len(texts[0].words) if texts else c.tokens,
            "dtype": c.dtype,
        }
        return HeadMetrics(side.model.name, tuple(metrics), tuple(texts), side.kv_heads, about)

    def summary(self) -> dict[str, Any]:
        """The atlas as plain values: of each score its five best heads."""
        return {
            "model": self.model_label, "verdict": self.verdict, "notes": list(self.side.notes),
            "left_out": dict(self.side.left_out),
            "scores": {s.key: {"title": s.title, "n": s.estimate.n, "top": _top(s)} for s in self.side.scores},
            "also": self.also.label if self.also else None, "validation": "not validated", "cost": self.cost,
            "run": self.path,
        }  # fmt: skip

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.atlas_parts.report import report

        return report(self)

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.atlas_parts.terminal import terminal

        return terminal(self)

    def _repr_html_(self) -> str:
        """The notebook output: verdict and a small head map of the primary score."""
        from workbench.views.notebook import mini_html

        scores = self.primary
        about = f"{self.model_label}. {self.verdict}."
        return mini_html(scores.values, scores.method.removeprefix("atlas/"), kv_heads=scores.kv_heads, caption=about)


def best(score: Score, k: int = 1) -> Sequence[Head]:
    """The heads with the highest values."""
    values = score.estimate.values
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), axis=None, kind="stable")[:k]
    heads = [Head(*map(int, np.unravel_index(int(i), values.shape))) for i in order]
    return [h for h in heads if not np.isnan(values[h])]


def _top(score: Score) -> list[dict[str, Any]]:
    e = score.estimate
    return [
        {"layer": h.layer, "head": h.head, "value": float(e.values[h]), "low": float(e.low[h]), "high": float(e.high[h])}
        for h in best(score, 5)
    ]  # fmt: skip


def _frame(side: Side) -> DataFrame:
    import pandas as pd

    layers, heads = side.shape
    layer, head = (x.ravel() for x in np.indices((layers, heads)))
    parts = [
        pd.DataFrame(
            {"model": side.model.name, "layer": layer, "head": head, "kv_head": head // (heads // side.kv_heads),
             "metric": s.measure.name, "version": s.version, "value": s.estimate.values.ravel(),
             "low": s.estimate.low.ravel(), "high": s.estimate.high.ravel(), "n": s.estimate.n}
        )
        for s in side.scores
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
