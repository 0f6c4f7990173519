"""Which heads that one set of scores lists become streaming heads where another is cut."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.head_sets import HeadSet
from workbench.heads import HeadScores


@dataclass(frozen=True)
class Lost:
    """Heads that A lists and that stream where B is cut: by (layer, head) where B is undecided.

    least, most: how many they could be, whichever of B's equal heads are kept.
    """

    sparsity: float
    heads: HeadSet
    listed: int
    least: int
    most: int

    def __str__(self) -> str:
        """In words."""
        span = f" ({self.least}–{self.most} by how ties are broken)" if self.least < self.most else ""
        named = f": {self.heads}" if len(self.heads) else ""
        count = f"{len(self.heads)} of A's {self.listed} heads"
        return f"{count} stream where B is cut at sparsity {self.sparsity:g}{span}{named}"


def streaming_of(a: HeadScores, b: HeadScores, threshold: float, sparsity: float) -> Lost:
    """Which heads of {a >= threshold} stream where the share `sparsity` of b's scored heads does."""
    listed = a.at_least(threshold)
    kept = b.top(len(b.rank()) - round(len(b.rank()) * sparsity))
    streaming = HeadSet(tuple(head for head in listed if head not in set(kept)))
    if not len(kept):
        return Lost(sparsity, streaming, len(listed), len(streaming), len(streaming))
    line = b.ranking[kept.heads[-1]]
    tied = sum(b.ranking[head] == line for head in listed)
    below = sum(b.ranking[head] < line for head in listed)
    places = sum(b.ranking[head] == line for head in kept)
    others = int((b.ranking == line).sum()) - tied
    return Lost(sparsity, streaming, len(listed), below + max(0, tied - places), below + tied - max(0, places - others))
