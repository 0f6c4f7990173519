"""Means over rows or batch, taken as a probe is read, so that the whole never has to be kept."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workbench.errors import BadInput
from workbench.masks import CompactMask

Reduce = Literal["mean"] | None
Over = Literal["rows", "batch"]


def checked(reduce: Reduce, over: Over) -> None:
    """Raises BadInput for anything else."""
    if reduce not in (None, "mean") or over not in ("rows", "batch"):
        raise BadInput(f"reduce={reduce!r}, over={over!r}: use reduce='mean' over 'rows' or 'batch', or reduce=None")


def mean(x: Tensor, mask: CompactMask, reduce: Reduce, over: Over, chosen: bool = False) -> Tensor:
    """[b, h, rows, …] with its rows, padding left out, or its batch averaged; chosen: rows are not all queries."""
    if reduce is None:
        return x
    if over == "batch":
        return x.mean(0, keepdim=True)
    if chosen or mask.padding is None:
        return x.mean(2, keepdim=True)
    own = torch.arange(mask.queries, device=x.device) + mask.q_offset - mask.kv_offset
    valid = mask.padding[:, own].to(x.dtype).reshape(x.shape[0], 1, -1, *[1] * (x.dim() - 3))
    return (x * valid).sum(2, keepdim=True) / valid.sum(2, keepdim=True).clamp_min(1)
