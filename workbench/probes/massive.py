"""Massive activations: a few numbers of the residual stream that are thousands of times the others.

Sun et al. 2024, arXiv 2402.17762: massive if |h| > 100 and at least 1000 times the median.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.probes.probe import Probe


class Massive(NamedTuple):
    """The k largest |h| of each text over all its tokens and dimensions, where they stand, and the median of |h|."""

    values: Float[Tensor, "layers b k"]
    positions: Int[Tensor, "layers b k"]
    dims: Int[Tensor, "layers b k"]
    median: Float[Tensor, "layers b"]


def massive(k: int = 3, at: str = "hook_resid_post", name: str = "massive") -> Probe:
    """Largest activations of the residual stream at a hook point of each block: see Massive. Padding is not left out."""

    def reduce(model: Any, x: Tensor) -> Tensor:
        sizes = x.abs().flatten(1).float()
        top = sizes.topk(min(k, sizes.shape[1]), -1)
        median = sizes.median(-1, keepdim=True).values.expand_as(top.values)
        where = (top.indices // x.shape[-1], top.indices % x.shape[-1])
        return torch.stack([top.values.double(), *(i.double() for i in where), median.double()], -1)

    def gather(found: Any) -> Massive:
        values, positions, dims, median = found[""].unbind(-1)
        return Massive(values, positions.long(), dims.long(), median[..., 0])

    return Probe(name, hook=(at, reduce), gathers=gather, parts=True)
