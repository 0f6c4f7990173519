"""Visual sinks: parts of a picture that draw attention and say nothing of it (VAR, arXiv 2503.03321)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.heads import HeadScores
from workbench.observation import observe
from workbench.probes.probe import Probe
from workbench.visual.scoring import over_tokens

if TYPE_CHECKING:
    from workbench.visual.reading import Reading

RHO, LEAST = 0.5, 0.2
"""A head is image-centric where visual sinks take at most ρ of its mass on the picture, and that is at least so much."""


@torch.no_grad()
def sink_dimensions(model: Any, first: Int[Tensor, "1 1"], tau: float) -> list[int]:
    """Dimensions d in which the first token stands out: |x_d| / rms(x) ≥ tau as it enters at least half of the blocks.

    first: its id. It sees nothing but itself, so one token is run. Empty where the model has none: no visual sinks.
    """

    def reduce(model: Any, x: Tensor) -> Tensor:
        x = x.float()
        return x.abs() / x.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)

    out = observe(model, first, [Probe("stands", hook=("hook_resid_pre", reduce))])["stands"]
    return ((out[:, 0, 0] >= tau).float().mean(0) >= 0.5).nonzero().flatten().tolist()


def visual_sinks(seen: Reading, at: str = "mean", **fields: Any) -> HeadScores:
    """Share of a head's attention on the picture that lies on visual sinks, from 0 to 1; a sample a caption.

    A part is a sink in a layer where Φ ≥ tau as it enters (see `read`). Where nothing lies on the picture the share is 0.
    """
    share = seen.on_sinks / seen.mass.clip(1e-30)
    return over_tokens(share, "visual/visual_sinks", at, **fields)


def image_centric(seen: Reading, rho: float = RHO, least: float = LEAST, **fields: Any) -> HeadScores:
    """Share of generated tokens at which a head is image-centric: mass ≥ `least`, of which sinks take at most rho."""
    centric = ((seen.on_sinks <= rho * seen.mass) & (seen.mass >= least)).astype(float)
    centric[seen.mass != seen.mass] = float("nan")
    parameters = {"rho": rho, "least": least, **fields.pop("parameters", {})}
    return over_tokens(centric, "visual/image_centric", parameters=parameters, **fields)
