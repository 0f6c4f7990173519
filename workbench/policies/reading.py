"""Choosing what a query reads: the best keys by its own scores, and the ends of the text."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.policies.scheme import Reading


def best(scores: Float[Tensor, "p r t m"], most: Int[Tensor, " p"]) -> Bool[Tensor, "p r t m"]:
    """The highest finite scores of each row, so many in each pair."""
    k = min(int(most.max()), scores.shape[-1])
    top = scores.topk(k, -1)
    wanted = (torch.arange(k, device=scores.device) < most[:, None, None, None]) & top.values.isfinite()
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, top.indices, wanted)


def ends(asked: Reading, sink: int, local: int) -> Bool[Tensor, "p t m"]:
    """The first keys, and the last ones before each query, its own position included."""
    at = asked.at[:, None]
    near = asked.steps[:, :, None] - at < local
    return (at >= 0) & ((at < sink) | near)
