"""The fewest full heads that keep a recall: searched on one set of samples, reported on another.

A list that is tuned on samples looks better there than it is, so what is claimed is the lower bound on samples that
the search has not seen. The bound is exact for answers that are right or wrong (Clopper and Pearson 1934).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.controls import Heads
from workbench.errors import BadInput
from workbench.heads import HeadScores

LEVEL = 0.95

Recall = Callable[[list[Heads]], Float[np.ndarray, "lists samples"]]
"""From lists of heads that stay full, all others streaming, to the recall of each sample, 0 to 1."""


class Told(NamedTuple):
    """Recall on the samples of the search and on those of the report, which must not be the same ones."""

    search: Recall
    report: Recall


@dataclass(frozen=True)
class Bounded:
    """A mean recall, its lower bound (one-sided, 95 %) and the samples behind it."""

    recall: float
    low: float
    n: int


@dataclass(frozen=True)
class Smallest:
    """The list's length, its recall where it was searched and on unseen samples, recall with every head full.

    confirmed: the lower bound reaches the target on the unseen samples too.
    """

    k: int
    target: float
    search: Bounded
    report: Bounded
    every_head: Bounded
    confirmed: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def bounded(values: Float[np.ndarray, " samples"], level: float = LEVEL) -> Bounded:
    """Mean and lower bound. Graded recalls count as that share of a right answer."""
    from scipy.stats import beta

    n, hits = len(values), float(np.sum(values))
    low = float(beta.ppf(1 - level, hits, n - hits + 1)) if hits > 0 else 0.0
    return Bounded(float(np.mean(values)), low, n)


def samples_for(target: float, level: float = LEVEL) -> int:
    """Samples at which the bound reaches the target if all answers are right."""
    return int(np.ceil(np.log(1 - level) / np.log(target))) if 0 < target < 1 else 1


def smallest_list(
    scores: HeadScores, target: float, told: Told, progress: Callable[[int, int], None] = lambda done, total: None
) -> Smallest:
    """The smallest K whose K best heads keep the target, by the lower bound on the samples of the search.

    K doubles until the target is kept, then the gap to the last K that failed is halved; a smaller K below one that
    failed is not looked for. progress: lists asked, and how many there are at most. Raises BadInput where the target is
    out of reach: too few samples, or a model that does not tell so much with every head full.
    """
    order = tuple(scores.rank())
    looked: dict[int, Bounded] = {}
    most = 3 + 2 * len(order).bit_length()

    def at(k: int) -> Bounded:
        if k not in looked:
            looked[k] = bounded(told.search([order[:k]])[0])
            progress(len(looked), most)
        return looked[k]

    every = at(len(order))
    if target >= 1 or bounded(np.ones(every.n)).low < target:
        need = f"give samples={samples_for(target)}" if target < 1 else "a bound never reaches 1: give less"
        raise BadInput(f"recall={target:g} is out of reach of {every.n} samples even if all are told: {need}")
    if every.low < target:
        told_now = f"{every.recall:.3f} of {every.n} samples (lower bound {every.low:.3f})"
        raise BadInput(f"recall={target:g}: with every head full the model tells {told_now}: ask for less")
    failed, k = -1, 0
    while k < len(order) and at(k).low < target:
        failed, k = k, min(len(order), max(1, 2 * k))
    while k - failed > 1:
        middle = (k + failed) // 2
        failed, k = (failed, middle) if at(middle).low >= target else (middle, k)
    report = bounded(told.report([order[:k]])[0])
    progress(most, most)
    return Smallest(k, target, at(k), report, every, report.low >= target)
