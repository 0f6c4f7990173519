"""How many heads two sets share by chance: exactly, for random sets that have as many heads in each layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from workbench.circuits import Place


@dataclass(frozen=True)
class Overlap:
    """Two sets of heads and what they share, against chance.

    a, b: their sizes. expected, p: mean overlap of random sets with as many heads in each layer, and how often they share
    as many or more, exactly. least: the smallest p that these sizes allow. p_plain: the same with layers ignored
    (hypergeometric tail). jaccard, share (|A ∩ B| / min) are NaN where a set is empty.
    """

    a: int
    b: int
    shared: tuple[Any, ...]
    expected: float
    p: float
    least: float
    p_plain: float

    @property
    def n(self) -> int:
        """Heads shared."""
        return len(self.shared)

    @property
    def jaccard(self) -> float:
        """|A ∩ B| / |A ∪ B|."""
        return self.n / (self.a + self.b - self.n) if self.a + self.b else float("nan")

    @property
    def share(self) -> float:
        """|A ∩ B| / min(|A|, |B|)."""
        return self.n / min(self.a, self.b) if min(self.a, self.b) else float("nan")

    @property
    def expected_share(self) -> float:
        """What `share` is by chance."""
        return self.expected / min(self.a, self.b) if min(self.a, self.b) else float("nan")


def overlap_chances(pool: int, a: Sequence[int], b: Sequence[int]) -> Float[np.ndarray, " overlap"]:
    """Probability of each overlap, from 0, of random sets with a[i] and b[i] of the pool's heads in each stratum.

    The overlap is a sum of independent hypergeometric numbers, one a stratum: their distributions convolved.
    """
    from scipy.stats import hypergeom

    parts = [hypergeom.pmf(np.arange(min(x, y) + 1), pool, x, y) for x, y in zip(a, b, strict=True)]
    return reduce(np.convolve, parts, np.ones(1))


def overlap_of(a: Collection[Place], b: Collection[Place], shape: tuple[int, int]) -> Overlap:
    """Two sets of (layer, head). shape: layers, heads of each."""
    return _overlap({(h[0], h) for h in a}, {(h[0], h) for h in b}, shape[1], shape[0] * shape[1])


def matched_overlap(
    a: Collection[tuple[Hashable, Place]], b: Collection[tuple[Hashable, Place]], shape: tuple[int, int]
) -> Overlap:
    """Sets of (stage, head): a head is shared where both hold it in the same stage. Strata: stage and layer."""
    stages = len({stage for stage, _ in (*a, *b)})
    one, other = ({((stage, head[0]), (stage, head)) for stage, head in side} for side in (a, b))
    return _overlap(one, other, shape[1], stages * shape[0] * shape[1])


def _overlap(a: set[tuple[Any, Any]], b: set[tuple[Any, Any]], pool: int, whole: int) -> Overlap:
    """Sets of (stratum, member)."""
    from scipy.stats import hypergeom

    counts = Counter(s for s, _ in a), Counter(s for s, _ in b)
    strata = sorted({*counts[0], *counts[1]})
    chances = overlap_chances(pool, [counts[0][s] for s in strata], [counts[1][s] for s in strata])
    shared = tuple(sorted(member for _, member in a & b))
    expected = float(chances @ np.arange(len(chances)))
    p = min(float(chances[len(shared) :].sum()), 1.0)
    plain = float(hypergeom.sf(len(shared) - 1, whole, len(a), len(b))) if a and b else 1.0
    return Overlap(len(a), len(b), shared, expected, p, float(chances[-1]), plain)


def expected_overlaps(
    a: Int[np.ndarray, "draws layers"], b: Int[np.ndarray, "draws layers"], heads: int
) -> Float[np.ndarray, " draws"]:
    """Mean overlap by chance of many pairs of sets with so many heads in each layer."""
    return (a * b).sum(-1) / heads


def layer_shuffles(shape: tuple[int, int], draws: int, seed: int) -> Int[np.ndarray, "draws layers heads"]:
    """Heads of each layer in a random order: what keeps a circuit's form and takes away which heads they are."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.broadcast_to(np.arange(shape[1]), (draws, *shape)), axis=-1)
