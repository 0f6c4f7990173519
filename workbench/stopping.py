"""When a scan may stop: the list of heads above the threshold must be stable under resampled needles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.heads import HeadScores

LOOKS = tuple(10 * 2**i for i in range(12))
LEAST_GROUPS = 5


@dataclass(frozen=True)
class Decision:
    """Whether to stop, and on what evidence."""

    stop: bool
    lower: float
    n_samples: int
    n_groups: int


def look(
    per_sample: Float[np.ndarray, "samples layers heads"], groups: tuple[str, ...], threshold: float, until: float
) -> Decision:
    """One look: the lower bound of the expected Jaccard of {score ≥ threshold} under resampled needles."""
    scores = HeadScores(per_sample.mean(0), "prefix", per_sample=per_sample, groups=groups)
    _, lower = scores.stability(threshold)
    n = len(set(groups))
    return Decision(lower >= until and n >= LEAST_GROUPS, lower, len(per_sample), n)


def decide(
    per_sample: Float[np.ndarray, "samples layers heads"], groups: tuple[str, ...], threshold: float, until: float
) -> Decision:
    """Look at 10, 20, 40, … accepted samples of the ordered list only; two looks in a row must agree to stop."""
    last, agreed = Decision(False, float("nan"), len(per_sample), len(set(groups))), 0
    for n in LOOKS:
        if n > len(per_sample):
            break
        last = look(per_sample[:n], groups[:n], threshold, until)
        agreed = agreed + 1 if last.stop else 0
        if agreed == 2:
            return last
    return Decision(False, last.lower, last.n_samples, last.n_groups)
