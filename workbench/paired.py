"""Paired comparisons of many arms on the same samples: exact tests, resampling that is shared, what n can show."""

from __future__ import annotations

from math import ceil, log2

import numpy as np
from jaxtyping import Bool, Float

FLIPS = 9999
EXACT = 16
"""Samples up to which all tosses are looked at."""
CHUNK = 1 << 24
"""Products of signs and changes held at once."""


def sign_flip_p(changes: Float[np.ndarray, "arms n"], seed: int, flips: int = FLIPS) -> Float[np.ndarray, " arms"]:
    """Two-sided permutation p of each arm's mean change: under the null its sign is a coin toss, sample by sample.

    The same tosses serve all arms. An arm without any change has p = 1.
    """
    rng, n = np.random.default_rng(seed), changes.shape[1]
    seen = np.abs(changes.sum(1))
    least = seen - 1e-9 * np.abs(changes).sum(1)  # an equal sum is at least as far, whatever its last bit
    extreme = np.zeros(len(changes), dtype=np.int64)
    step = max(1, CHUNK // max(1, n + len(changes)))
    for start in range(0, flips, step):
        signs = rng.integers(0, 2, (n, min(step, flips - start))) * 2.0 - 1.0
        extreme += (np.abs(changes @ signs) >= least[:, None]).sum(1)
    return (1 + extreme) / (1 + flips)


def rises_p(changes: Float[np.ndarray, " n"], seed: int = 0) -> float:
    """One-sided permutation p of a mean change above zero: under the null each sample's sign is a coin toss.

    All tosses up to EXACT samples, so never below 2^-n; beyond, FLIPS random ones. Without any change, or samples: 1.
    """
    n = len(changes)
    least = changes.sum() - 1e-9 * np.abs(changes).sum()
    if n <= EXACT:
        sums = np.zeros(1)
        for x in changes:
            sums = np.concatenate([sums + x, sums - x])
        return float((sums >= least).mean())
    signs = np.random.default_rng(seed).integers(0, 2, (FLIPS, n)) * 2.0 - 1.0
    return float((1 + (signs @ changes >= least).sum()) / (1 + FLIPS))


def discordant(before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, "arms n"]) -> tuple[np.ndarray, np.ndarray]:
    """Samples that an arm mends, and that it spoils, [arms] each."""
    return (after & ~before).sum(1), (before & ~after).sum(1)


def mcnemar_p(mended: np.ndarray, spoiled: np.ndarray) -> Float[np.ndarray, " arms"]:
    """Exact two-sided McNemar test: of the discordant samples either kind is as likely."""
    from scipy.stats import binom

    few, both = np.minimum(mended, spoiled), mended + spoiled
    return np.where(both == 0, 1.0, np.minimum(1.0, 2 * binom.cdf(few, both, 0.5)))


def least_discordant(arms: int, level: float = 0.05) -> int:
    """Samples that must all change the same way for a first discovery among so many arms (exact McNemar, two-sided)."""
    return ceil(1 + log2(arms / level))


def flips_for(arms: int, level: float = 0.05) -> int:
    """Tosses whose smallest p allows one discovery among so many arms, with room to spare."""
    return max(FLIPS, int(4 * arms / level))
