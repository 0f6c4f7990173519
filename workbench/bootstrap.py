"""Resampling of per-sample head scores: intervals, and how far a list of heads can be trusted.

What is resampled is the group (a needle), not the row: rows of one needle are not independent.
All draws are one matrix product, multinomial weights [draws, groups] @ sums [groups, heads].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

DECIMALS = 12  # sums in another order (another batch size) differ beyond this; equal scores must stay equal
FEWEST_GROUPS = 2  # one group resampled is itself: no width, and no knowledge of it


def settled(values: Float[np.ndarray, "*shape"] | float) -> Float[np.ndarray, "*shape"]:
    """Scores without the last bits, so that ties and thresholds do not hang on the order of a sum."""
    return np.round(values, DECIMALS)


def group_sums(
    samples: Float[np.ndarray, "samples heads"], groups: Sequence[str] | None
) -> tuple[Float[np.ndarray, "groups heads"], Float[np.ndarray, " groups"]]:
    """Sum of the scores and number of samples of each group; without groups every sample is its own."""
    if groups is None:
        return samples, np.ones(len(samples))
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    belongs = (np.arange(len(names))[:, None] == member[None]).astype(float)
    return belongs @ samples, belongs.sum(1)


def resampled_means(
    samples: Float[np.ndarray, "samples heads"], groups: Sequence[str] | None, draws: int, seed: int
) -> Float[np.ndarray, "draws heads"] | None:
    """Mean scores of `draws` bootstrap samples of the groups; None if there are fewer than two groups.

    A mean is over rows: a needle that was asked more often counts more, as it does in the score itself.
    """
    sums, sizes = group_sums(samples, groups)
    if len(sizes) < FEWEST_GROUPS:
        return None
    weights = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)
    return (weights @ sums) / (weights @ sizes)[:, None]


def percentile_interval(
    samples: Float[np.ndarray, "samples heads"], groups: Sequence[str] | None, level: float, draws: int, seed: int
) -> tuple[Float[np.ndarray, " heads"], Float[np.ndarray, " heads"]]:
    """Percentile bootstrap interval of each head's mean; NaN with fewer than two groups."""
    means = resampled_means(samples, groups, draws, seed)
    if means is None:
        nothing = np.full(samples.shape[1], np.nan)
        return nothing, nothing.copy()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def jaccard(a: Bool[np.ndarray, "*batch heads"], b: Bool[np.ndarray, "*batch heads"]) -> Float[np.ndarray, "*batch"]:
    """Shared over all listed heads; two empty lists agree (1)."""
    union = (a | b).sum(-1)
    return np.where(union == 0, 1.0, (a & b).sum(-1) / np.maximum(union, 1))


def list_agreement(
    samples: Float[np.ndarray, "samples heads"],
    groups: Sequence[str] | None,
    threshold: float,
    draws: int,
    seed: int,
) -> Float[np.ndarray, " draws"] | None:
    """Jaccard of {mean score >= threshold} between all samples and each bootstrap sample of the groups.

    None if there are fewer than two groups. Its low quantile stands for the agreement of this list with
    the list of endlessly many samples: on the published files the 10th percentile at 10 samples is .71–.74
    and so is the 10th percentile of the true agreement.
    """
    means = resampled_means(samples, groups, draws, seed)
    if means is None:
        return None
    cut = settled(threshold)
    return jaccard(settled(means) >= cut, settled(samples.mean(0)) >= cut)
