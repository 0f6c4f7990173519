"""What an exporter is given: a cut at the level of heads that its format names, and all that is known about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from workbench import bootstrap
from workbench.controls import Heads
from workbench.errors import BadInput
from workbench.exporters.cut import Cut, cut
from workbench.exporters.cutting import Cutting
from workbench.head_sets import Head, HeadSet
from workbench.heads import HeadScores
from workbench.recall_cut import Told
from workbench.scores_record import about
from workbench.versions import versions

Level = Literal["kv", "query"]


@dataclass(frozen=True, eq=False)
class Split:
    """Full and streaming heads, per key-value head or per query head.

    source: the scores as given; scores: the same at this level, NaN where a head of the group has none. conversion: how
    one became the other. cut: None for raw gates. validation: what is known of the causal check, None: nothing.
    """

    source: HeadScores
    scores: HeadScores
    level: Level
    conversion: str
    how: Cutting
    cut: Cut | None
    validation: Any = None

    @property
    def full(self) -> Bool[np.ndarray, "layers heads"]:
        """Which heads stay full. Raises BadInput for raw gates."""
        if self.cut is None:
            raise BadInput("gates=true is not cut: this format holds full and streaming heads only")
        return self.cut.full

    @property
    def values(self) -> Float[np.ndarray, "layers heads"]:
        """1 for full heads and 0 for streaming ones; or the raw gates, 1 where a head has none."""
        if self.cut is None:
            return np.where(self.scores.scored, self.scores.values, 1.0)
        return self.cut.full.astype(float)

    @property
    def chosen(self) -> list[Head]:
        """Full heads, best first; those without a score last."""
        ranked = [head for head in self.scores.rank() if self.full[head]]
        return ranked + [Head(int(i), int(j)) for i, j in np.argwhere(self.full & ~self.scores.scored)]

    @property
    def query_heads(self) -> int | None:
        """Query heads a layer, None where the scores are per key-value head and nobody told."""
        if self.level == "query":
            return self.scores.n_heads
        return self.how.query_heads or (None if _vague(self.source) else self.source.n_heads)

    def lost(self) -> HeadSet:
        """Heads of the source at or above the threshold that stream, best first."""
        if self.cut is None:
            return HeadSet()
        full, line = self._on_source(), bootstrap.settled(self.how.line(self.source))
        return HeadSet(tuple(h for h in self.source.rank() if not full[h] and self.source.ranking[h] >= line))

    def carried(self) -> HeadSet:
        """Heads of the source below the line that are full only because their key-value group's best head is."""
        if self.cut is None or not self.full.any() or self.scores.n_heads >= self.source.n_heads:
            return HeadSet()
        kept = self.scores.ranking[self.full & self.scores.scored]
        line, full = (kept.min() if len(kept) else np.inf), self._on_source()
        return HeadSet(tuple(h for h in self.source.rank() if full[h] and self.source.ranking[h] < line))

    def about(self) -> dict[str, Any]:
        """Provenance: model, method, samples, conversion, cut, what the conversion and the cut lost, validation."""
        known = about(self.source)
        lost, carried = self.lost(), self.carried()
        return {
            "versions": versions(),
            "method": known["method"],
            "parameters": known["parameters"],
            "model": known["model"] or "unverified",
            "shape": {
                "layers": self.scores.n_layers,
                "kv_heads": self.scores.n_heads if self.level == "kv" else self.source.kv_heads,
                "query_heads": self.query_heads,
            },
            "samples": self.source.n,
            "groups": self.source.n_groups,
            "level": self.level,
            "kv_reduction": self.conversion,
            "window": {"sink_size": self.how.sink_size, "recent_size": self.how.recent_size},
            "cut": {"rule": "raw gates, not cut", "unscored": int((~self.scores.scored).sum())}
            if self.cut is None
            else self.cut.to_json(),
            "retrieval_heads_lost": {"threshold": self.how.line(self.source), "heads": [str(h) for h in lost]},
            "carried_by_their_group": [str(h) for h in carried],
            "validation": "not validated" if self.validation is None else self.validation,
        }

    def _on_source(self) -> Bool[np.ndarray, "layers heads"]:
        """The pattern at the level of the source: repeated over groups, or the first of equal repeats."""
        ours, theirs = self.scores.n_heads, self.source.n_heads
        return np.repeat(self.full, theirs // ours, 1) if theirs >= ours else self.full[:, :: ours // theirs]


def split(
    scores: HeadScores,
    level: Level,
    how: Cutting,
    told: Told | None = None,
    validation: Any = None,
) -> Split:
    """Cut scores at a level. told: for recall=, in query heads. Raises BadInput in one line."""
    missing = int((~scores.scored).sum())
    if missing and how.unscored == "refuse":
        raise BadInput(f"{missing} of {scores.values.size} heads have no score: unscored=full keeps such heads full")
    at, conversion = _to_kv(scores) if level == "kv" else _to_query(scores, how.query_heads)
    if how.gates:
        return Split(scores, at, level, conversion, how, None, validation)
    spread = None if told is None else Told(*(_spread(ask, at, _width(scores, at, how)) for ask in told))
    return Split(scores, at, level, conversion, how, cut(at, how, spread), validation)


def _to_kv(scores: HeadScores) -> tuple[HeadScores, str]:
    """Scores per key-value head, without one wherever any query head of the group has none."""
    kv = scores.to_kv_heads("max")
    known = scores.scored.reshape(kv.n_layers, kv.n_heads, -1).all(-1)
    kv = replace(kv, values=np.where(known, kv.values, np.nan))
    return kv, kv.parameters["kv_reduction"] if kv.n_heads < scores.n_heads else "none needed"


def _to_query(scores: HeadScores, query_heads: int | None) -> tuple[HeadScores, str]:
    """Scores per query head; those per key-value head are repeated over their group."""
    given = scores.n_heads
    if query_heads is None and _vague(scores):
        raise BadInput(
            f"the scores are per key-value head and this format names query heads: give model=, or query_heads= (a "
            f"multiple of {given}, or {given} itself where every query head has its own)"
        )
    if query_heads in (None, given):
        return scores, "none needed"
    if scores.kv_heads != given or query_heads % given:
        raise BadInput(f"query_heads={query_heads} does not fit scores of {given} heads a layer")
    times = query_heads // given

    def wide(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else np.repeat(array, times, -1)

    values = np.repeat(scores.values, times, 1)
    again = replace(scores, values=values, per_sample=wide(scores.per_sample), tiebreak=wide(scores.tiebreak))
    return again, f"each key-value head repeated for its {times} query heads"


def _vague(scores: HeadScores) -> bool:
    """Whether the heads may be key-value heads of a model with more query heads than that."""
    return scores.kv_heads == scores.n_heads and (scores.model is None or "kv_reduction" in scores.parameters)


def _width(scores: HeadScores, at: HeadScores, how: Cutting) -> int:
    """Query heads of the model for each head at this level."""
    return max(1, (how.query_heads or scores.n_heads) // at.n_heads)


def _spread(ask: Any, at: HeadScores, width: int) -> Any:
    """The same question for lists of heads at this level; heads without a score are full in every list."""
    fixed = [(int(i), int(j)) for i, j in np.argwhere(~at.scored)]

    def asked(lists: list[Heads]) -> np.ndarray:
        return ask([tuple((i, j * width + w) for i, j in (*fixed, *own) for w in range(width)) for own in lists])

    return asked
