"""When a scan may stop: the list of heads above the threshold no longer changes under resampled needles.

Looks are taken at fixed numbers of accepted samples of the ordered list only, so batch size, shards and resuming
cannot move the stop. Two looks in a row must agree, which takes the edge off looking several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench import bootstrap
from workbench.errors import BadInput
from workbench.heads import CLAIM

LOOKS = tuple(10 * 2**i for i in range(12))
LEAST_SAMPLES = 10
LEAST_GROUPS = 5
LEAST_HEADS = 3  # agreement of a shorter list says little: one head more or less is everything
DRAWS = 200
IN_A_ROW = 2


@dataclass(frozen=True)
class Decision:
    """Whether to stop, and on what evidence.

    reason: one line. lower: agreement (Jaccard) of the list that 90 % of the resamples reach at the last look,
    NaN before the first. n_samples, n_groups: the prefix that the decision rests on; n_heads: length of its list.
    """

    stop: bool
    reason: str
    lower: float
    n_samples: int
    n_groups: int
    n_heads: int = 0


def decide(
    per_sample: Float[np.ndarray, "samples layers heads"],
    groups: Sequence[str] | None,
    threshold: float,
    until: float = 0.95,
    looks: Sequence[int] = LOOKS,
) -> Decision:
    """Whether the accepted samples, in the order of the scan, are enough for the list {score >= threshold}.

    groups: the needle of each sample, which is what gets resampled; None: each sample is its own.
    looks: numbers of samples, ascending; whatever lies behind the look that stops is not looked at.
    Raises BadInput if until is not in (0, 1] or there is not one group per sample.
    """
    if not 0 < until <= 1:
        raise BadInput(f"until={until}: give an agreement above 0 and up to 1, or none")
    if groups is not None and len(groups) != len(per_sample):
        raise BadInput(f"{len(groups)} groups for {len(per_sample)} samples")
    names = tuple(map(str, range(len(per_sample)))) if groups is None else tuple(groups)
    last, agreed = Decision(False, f"fewer than {looks[0]} samples", float("nan"), len(names), len(set(names))), 0
    for n in looks:
        if n > len(names):
            break
        last = look(per_sample[:n], names[:n], threshold, until)
        agreed = agreed + 1 if last.stop else 0
        if agreed == IN_A_ROW:
            return last
    reason = f"{last.reason}, but not yet {IN_A_ROW} looks in a row" if last.stop else last.reason
    return Decision(False, reason, last.lower, last.n_samples, last.n_groups, last.n_heads)


def look(
    per_sample: Float[np.ndarray, "samples layers heads"], groups: Sequence[str], threshold: float, until: float
) -> Decision:
    """One look at all the samples given. Heads that are NaN in any sample were never scored and do not count."""
    n, distinct = len(per_sample), len(set(groups))
    flat = per_sample.reshape(n, -1)
    flat = flat[:, ~np.isnan(flat).any(0)]
    listed = int((bootstrap.settled(flat.mean(0)) >= bootstrap.settled(threshold)).sum())
    agreement = bootstrap.list_agreement(flat, groups, threshold, DRAWS, seed=n)
    lower = float("nan") if agreement is None else float(np.quantile(agreement, 1 - CLAIM))
    for found, least, what in (
        (n, LEAST_SAMPLES, "accepted samples"),
        (distinct, LEAST_GROUPS, "distinct needles"),
        (listed, LEAST_HEADS, f"heads at {threshold:g}"),
    ):
        if found < least:
            return Decision(False, f"{found} {what}, at least {least} are needed", lower, n, distinct, listed)
    stop = lower >= until
    reason = f"list of {listed} heads agrees at {lower:.3f} in 90 % of resamples ({'≥' if stop else '<'} {until:g})"
    return Decision(stop, reason, lower, n, distinct, listed)
