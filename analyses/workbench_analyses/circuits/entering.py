"""Which heads enter a stage: effects beyond chance and beyond a share of the gap, by resampling the prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

DRAWS = 2000
TAUS = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Thresholds whose counts are shown beside the one that was asked for."""


@dataclass(frozen=True, eq=False)
class Entering:
    """share: mean effect over mean gap; low, high: its 95 % interval. steady: its sign is the same in both halves.

    An effect enters where the end of its interval that is nearer to zero lies beyond the threshold.
    """

    share: Float[np.ndarray, "*senders"]
    low: Float[np.ndarray, "*senders"]
    high: Float[np.ndarray, "*senders"]
    steady: Bool[np.ndarray, "*senders"]

    def at(self, tau: float) -> Bool[np.ndarray, "*senders"]:
        """Whether each enters."""
        bound = np.where(self.share > 0, self.low, -self.high)
        return (bound > tau) & self.steady

    def counts(self) -> dict[float, int]:
        """How many enter at each of the shown thresholds."""
        return {tau: int(self.at(tau).sum()) for tau in TAUS}


def entering(
    effects: Float[np.ndarray, "n *senders"], gaps: Float[np.ndarray, " n"], seed: int, draws: int = DRAWS
) -> Entering:
    """Shares with intervals: percentile bootstrap over prompts of the ratio of sums, gaps drawn with their effects.

    The halves are disjoint and random. A sender without any effect is not steady.
    """
    n, flat = len(gaps), effects.reshape(len(effects), -1).astype(np.float64)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    ratios = (weights @ flat) / (weights @ gaps)[:, None]
    low, high = np.quantile(ratios, [0.025, 0.975], axis=0)
    half = rng.permutation(n) < n // 2
    signs = [np.sign(flat[part].sum(0)) for part in (half, ~half)]
    steady = (signs[0] == signs[1]) & (signs[0] != 0)
    shape = effects.shape[1:]
    share = flat.sum(0) / gaps.sum()
    return Entering(*(x.reshape(shape) for x in (share, low, high, steady)))
