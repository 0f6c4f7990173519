"""Φ: how far a token stands out in the sink dimensions of the residual stream (VAR, arXiv 2503.03321)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.errors import BadInput
from workbench.probes.probe import Probe


def phi(dims: Sequence[int], name: str = "phi") -> Probe:
    """Largest |x_d| / rms(x) over the given dimensions of what enters each block, [layers, batch, positions]; ≤ √d."""
    if not dims:
        raise BadInput("phi: give at least one dimension")

    def reduce(model: Any, x: Tensor) -> Tensor:
        if max(dims) >= x.shape[-1] or min(dims) < 0:
            raise BadInput(f"phi: dimensions {list(dims)}; the residual stream has 0 to {x.shape[-1] - 1}")
        x = x.float()
        return x[..., list(dims)].abs().amax(-1) / x.square().mean(-1).sqrt().clamp_min(1e-12)

    return Probe(name, hook=("hook_resid_pre", reduce), joins=2)
