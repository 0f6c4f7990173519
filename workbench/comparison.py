"""How far two sets of head scores agree: across tasks, models and methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from workbench import bootstrap
from workbench.errors import BadInput
from workbench.head_sets import HeadSet
from workbench.heads import HeadScores
from workbench.jsonable import jsonable
from workbench.streaming_loss import Lost, streaming_of


@dataclass(frozen=True)
class Comparison:
    """Agreement over the heads that both sides scored; a statistic that is not defined is NaN, with a note.

    pearson, spearman: of the scores (average ranks for ties). overlap: heads in both top-k lists, named in
    `shared`; p_overlap: chance of at least as many between random lists (hypergeometric). jaccard: of the
    lists {score >= threshold}. auc: how well b ranks the heads that a lists (score of a >= threshold). lost: which of
    those stream where b is cut at a sparsity, if one was asked.
    """

    a: str
    b: str
    pearson: float
    spearman: float
    k: int
    overlap: int
    p_overlap: float
    shared: HeadSet
    threshold: float
    jaccard: float
    auc: float
    n_heads: int
    notes: tuple[str, ...] = ()
    lost: Lost | None = None

    def summary(self) -> dict[str, Any]:
        """All fields as JSON-able values; NaN as null."""
        held = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return jsonable({**held, "lost": None if self.lost is None else vars(self.lost)})

    def __rich__(self) -> Any:
        """The table in the terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None, pad_edge=False)
        rows = (
            ("heads compared", f"{self.n_heads}"),
            ("Pearson", _figure(self.pearson)),
            ("Spearman", _figure(self.spearman)),
            (f"top-{self.k} overlap", f"{self.overlap} of {self.k} (p = {self.p_overlap:.3g})"),
            (f"Jaccard at {self.threshold:g}", _figure(self.jaccard)),
            ("AUC", f"{_figure(self.auc)} (B ranks the heads that A scores ≥ {self.threshold:g})"),
            ("in both lists", str(self.shared) or "no head"),
        )
        for name, value in rows:
            table.add_row(Text(name), Text(value))
        if self.lost is not None:
            table.add_row(Text("lost"), Text(str(self.lost)))
        lines = (f"A: {self.a}", f"B: {self.b}"), tuple(f"note: {note}" for note in self.notes)
        return Group(*map(Text, lines[0]), table, *map(Text, lines[1]))


def compare(
    a: HeadScores, b: HeadScores, k: int = 20, threshold: float = 0.1, sparsity: float | None = None
) -> Comparison:
    """Compare two sets of scores head by head.

    If only one side is per key-value head, the other is reduced to that level by max, and a note says so. sparsity: cut
    b so, and tell which heads that a lists would stream. Raises BadInput if layers or heads do not match, no head is
    scored on both sides, k < 1, or sparsity is outside 0…1.
    """
    if k < 1:
        raise BadInput(f"k={k}: give a number of heads from 1")
    if sparsity is not None and not 0 <= sparsity <= 1:
        raise BadInput(f"sparsity={sparsity:g} is a share of streaming heads: give 0 to 1")
    names, notes = (a.describe(), b.describe()), _identity_notes(a, b)
    a, b, said = _same_level(a, b)
    both = a.scored & b.scored
    n = int(both.sum())
    if not n:
        raise BadInput("the two sides have no scored head in common")
    if n < both.size:
        notes.append(f"{both.size - n} of {both.size} heads left out: not scored on both sides")
    x, y = a.ranking[both], b.ranking[both]
    listed_a, listed_b = (side >= bootstrap.settled(threshold) for side in (x, y))
    jaccard = float(bootstrap.jaccard(listed_a, listed_b)) if (listed_a | listed_b).any() else float("nan")
    notes += _undefined(listed_a, listed_b, x, y, threshold)
    size = min(k, n)
    tops = [_within(side, both).top(size) for side in (a, b)]
    notes += [
        f"{t.ambiguous} more heads of {s} tie at the cut of top-{size}" for t, s in zip(tops, "AB") if t.ambiguous
    ]
    shared = HeadSet(tuple(head for head in tops[0] if head in tops[1]))
    return Comparison(
        *names,
        pearson=_pearson(x, y),
        spearman=_pearson(_ranks(x), _ranks(y)),
        k=size,
        overlap=len(shared),
        p_overlap=_chance(len(shared), size, n),
        shared=shared,
        threshold=threshold,
        jaccard=jaccard,
        auc=_auc(listed_a, y),
        n_heads=n,
        notes=(*said, *notes),
        lost=None if sparsity is None else streaming_of(_within(a, both), _within(b, both), threshold, sparsity),
    )


def _undefined(
    listed_a: Bool[np.ndarray, " heads"],
    listed_b: Bool[np.ndarray, " heads"],
    x: Float[np.ndarray, " heads"],
    y: Float[np.ndarray, " heads"],
    threshold: float,
) -> list[str]:
    """Why a statistic is not defined."""
    notes = []
    if not (listed_a | listed_b).any():
        notes.append(f"no head reaches {threshold:g} on either side: no Jaccard")
    if listed_a.all() or not listed_a.any():
        notes.append(f"A scores {'all' if listed_a.any() else 'no'} heads ≥ {threshold:g}: no AUC")
    if x.min() == x.max() or y.min() == y.max():
        notes.append("one side scores all heads alike: no correlation")
    return notes


def _same_level(a: HeadScores, b: HeadScores) -> tuple[HeadScores, HeadScores, list[str]]:
    """Both sides per query head or both per key-value head, with what was done to get there."""
    sizes = f"A has {a.n_layers} × {a.n_heads} heads, B has {b.n_layers} × {b.n_heads}"
    if a.n_layers != b.n_layers:
        raise BadInput(f"{sizes}: only models of the same shape can be compared head by head")
    if a.n_heads == b.n_heads:
        return a, b, []
    fine, coarse = (a, b) if a.n_heads > b.n_heads else (b, a)
    # The coarse side, if it is known to be per key-value head, tells the geometry of a file that does not.
    kv = fine.kv_heads or (coarse.n_heads if coarse.kv_heads == coarse.n_heads else None)
    if kv is None:
        raise BadInput(
            f"{sizes}: if the smaller count is the key-value heads of one model, say kv_heads={coarse.n_heads}"
        )
    if kv != coarse.n_heads or fine.n_heads % kv:
        raise BadInput(f"{sizes}: these are not query and key-value heads of one shape")
    reduced = replace(fine, kv_heads=kv).to_kv_heads("max")
    name = "A" if fine is a else "B"
    note = f"{name} reduced to {kv} key-value heads a layer: max over {fine.n_heads // kv} query heads"
    return (reduced, b, [note]) if fine is a else (a, reduced, [note])


def _identity_notes(a: HeadScores, b: HeadScores) -> list[str]:
    missing = [name for name, side in (("A", a), ("B", b)) if not side.verified]
    if missing:
        return [f"{' and '.join(missing)} unverified: the file does not say which model was measured"]
    return [] if a.model == b.model else ["the two sides were measured on different models"]


def _within(scores: HeadScores, keep: Bool[np.ndarray, "layers heads"]) -> HeadScores:
    return replace(scores, values=np.where(keep, scores.values, np.nan))


def _ranks(x: Float[np.ndarray, " heads"]) -> Float[np.ndarray, " heads"]:
    from scipy.stats import rankdata

    return rankdata(x)


def _pearson(x: Float[np.ndarray, " heads"], y: Float[np.ndarray, " heads"]) -> float:
    if x.min() == x.max() or y.min() == y.max():
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def _chance(overlap: int, k: int, n: int) -> float:
    from scipy.stats import hypergeom

    return float(hypergeom.sf(overlap - 1, n, k, k))


def _auc(positive: Bool[np.ndarray, " heads"], ranked_by: Float[np.ndarray, " heads"]) -> float:
    """Chance that a positive head is ranked above a negative one, ties half (Mann–Whitney)."""
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return float("nan")
    return float((_ranks(ranked_by)[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _figure(x: float) -> str:
    return "not defined" if np.isnan(x) else f"{x:.3f}"
