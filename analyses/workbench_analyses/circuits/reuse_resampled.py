"""How sure an overlap is: intervals over prompts, and the overlap that each circuit has with itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from workbench_analyses.circuits.reuse_chance import expected_overlaps
from workbench_analyses.circuits.reuse_sides import Column, Side

LEAST_ROOM = 0.1
"""Where the ceiling lies less than this above chance, a share of the room between them says nothing."""
Draws = Bool[np.ndarray, "draws layers heads"]
Figures = Float[np.ndarray, " draws"]


@dataclass(frozen=True)
class Intervals:
    """95 % bootstrap intervals over the prompts of both tasks: of |A ∩ B|, |A ∩ B| / min, Jaccard.

    A resample holds the noise of the prompts and its own, so a head enters one by a bound of √2 standard errors for each
    of a sample. With one for one, noise lets in heads by the dozen and the interval misses what it should cover (test).
    """

    shared: tuple[float, float]
    share: tuple[float, float]
    jaccard: tuple[float, float]


@dataclass(frozen=True)
class Ceiling:
    """Overlap |A ∩ B| / min of circuits found in disjoint halves of the prompts, means over random halvings.

    within: of each circuit with itself, the most that can be asked. between: of the two. chance: of random sets with as
    many heads in each layer. reuse: (between − chance) / (√(within A · within B) − chance), not clipped; None where the
    denominator is below .1: not estimable.
    """

    within: tuple[float, float]
    between: float
    chance: float
    halvings: int

    @property
    def room(self) -> float:
        """The denominator of `reuse`."""
        return float(np.sqrt(self.within[0] * self.within[1]) - self.chance)

    @property
    def reuse(self) -> float | None:
        """How far from chance to the ceiling the overlap is."""
        return (self.between - self.chance) / self.room if self.room >= LEAST_ROOM else None


def intervals(a: Side, b: Side, column: Column, draws: int, seed: int, tau: float | None = None) -> Intervals | None:
    """tau: the threshold, if not that of each run. None where a run kept no effects."""
    rng = np.random.default_rng(seed)
    one, other = (_resampled(side, column, draws, rng, tau) for side in (a, b))
    if one is None or other is None:
        return None
    both, sizes = (one & other).sum((1, 2)), (one.sum((1, 2)), other.sum((1, 2)))
    return Intervals(
        _middle(both), _middle(_ratio(both, np.minimum(*sizes))), _middle(_ratio(both, sizes[0] + sizes[1] - both))
    )


def ceiling(a: Side, b: Side, column: Column, halvings: int, seed: int) -> Ceiling | None:
    """None where a run kept no effects, or no half has a head in its circuit."""
    one, other = _halves(a, column, halvings, seed), _halves(b, column, halvings, seed + 1)
    if one is None or other is None:
        return None
    (a1, a2), (b1, b2) = one, other
    pairs = [(a1, b1), (a2, b2)]
    between = np.stack([_coefficient(x, y) for x, y in pairs])
    chance = np.stack([_by_chance(x, y) for x, y in pairs])
    within = _coefficient(a1, a2), _coefficient(b1, b2)
    if any(np.isnan(x).all() for x in (between, *within)):
        return None
    own = tuple(float(np.nanmean(x)) for x in within)
    return Ceiling((own[0], own[1]), float(np.nanmean(between)), float(np.nanmean(chance)), halvings)


def _resampled(side: Side, column: Column, draws: int, rng: np.random.Generator, tau: float | None) -> Draws | None:
    if side.effects is None:
        return None
    n = len(side.effects.gaps)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
    return side.members(column, weights, tau, errors=np.sqrt(2))


def _halves(side: Side, column: Column, halvings: int, seed: int) -> tuple[Draws, Draws] | None:
    """The circuit in random halves of the prompts, and in the other halves."""
    if side.effects is None:
        return None
    n = len(side.effects.gaps)
    order = np.random.default_rng(seed).permuted(np.broadcast_to(np.arange(n), (halvings, n)), axis=1)
    first = (order < n // 2).astype(float)
    found = side.members(column, first), side.members(column, 1 - first)
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _coefficient(a: Draws, b: Draws) -> Figures:
    """|A ∩ B| / min, NaN where a set is empty."""
    return _ratio((a & b).sum((1, 2)), np.minimum(a.sum((1, 2)), b.sum((1, 2))))


def _by_chance(a: Draws, b: Draws) -> Figures:
    least = np.minimum(a.sum((1, 2)), b.sum((1, 2)))
    return _ratio(expected_overlaps(a.sum(2), b.sum(2), a.shape[2]), least)


def _ratio(x: np.ndarray, of: np.ndarray) -> Figures:
    return np.where(of > 0, x / np.maximum(of, 1), np.nan)


def _middle(x: Figures) -> tuple[float, float]:
    """2.5th and 97.5th percentile; NaN where no resample has a figure."""
    if np.isnan(x).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(x, [0.025, 0.975])
    return float(low), float(high)
