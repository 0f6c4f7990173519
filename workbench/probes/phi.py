"""Φ: how far a token stands out in the sink dimensions of the residual stream (VAR, arXiv 2503.03321)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.errors import BadInput
from workbench.probes.probe import Probe

TAU, WIDTH = 20.0, 4096
"""The threshold of the paper, and the width of the models that it was made for."""


def default_tau(width: int) -> float:
    """From which Φ a token is a sink token: 20·√(d / 4096), since Φ ≤ √d; an absolute 20 never fires below d = 400."""
    return TAU * (width / WIDTH) ** 0.5


def phi(dims: Sequence[int], name: str = "phi") -> Probe:
    """Largest |x_d| / rms(x) over the given dimensions of what enters each block, [layers, batch, positions]; ≤ √d."""
    if not dims:
        raise BadInput("phi: give at least one dimension")

    def reduce(model: Any, x: Tensor) -> Tensor:
        if max(dims) >= x.shape[-1] or min(dims) < 0:
            raise BadInput(f"phi: dimensions {list(dims)}; the residual stream has 0 to {x.shape[-1] - 1}")
        x = x.float()
        return x[..., list(dims)].abs().amax(-1) / x.square().mean(-1).sqrt().clamp_min(1e-12)

    return Probe(name, hook=("hook_resid_pre", reduce), joins=2, parts=True)
