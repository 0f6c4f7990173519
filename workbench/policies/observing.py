"""Selection by what the last rows of a prompt look at: the inner step of SnapKV, PyramidKV, Ada-KV and HeadKV."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.policies.scheme import OBSERVED, Seen

FEWEST = 4


def solved(capacity: int, window: int, published: int) -> int:
    """Rows of the observation window: the share of the capacity that `window` is of the published one.

    At least FEWEST, at most half of the capacity. A window that is long beside the question drowns it in other votes.
    """
    rows = max(FEWEST, round(capacity * window / published))
    return max(1, min(rows, capacity // 2, OBSERVED))


def voted(seen: Seen, window: int, kernel: int, per_kv: bool = True) -> Float[Tensor, "c past"]:
    """Mean attention of the last `window` rows on each earlier key, max-pooled over `kernel` neighbours."""
    votes = seen.observed(window, per_kv)[:, : max(0, seen.tokens - window)]
    if not votes.shape[1]:
        return votes
    return torch.nn.functional.max_pool1d(votes[:, None], kernel, 1, kernel // 2)[:, 0, : votes.shape[1]]


def top_entries(votes: Float[Tensor, "c past"], most: Sequence[int], window: int) -> Bool[Tensor, "c n"]:
    """The keys with the most votes, so many in each cache, and the window's own rows; equal votes: the earlier key."""
    order = votes.argsort(dim=-1, descending=True, stable=True)
    limit = torch.tensor(most, device=votes.device)[:, None]
    early = torch.zeros_like(votes, dtype=torch.bool)
    early.scatter_(1, order, torch.arange(votes.shape[1], device=votes.device) < limit)
    return torch.nn.functional.pad(early, (0, window), value=True)
