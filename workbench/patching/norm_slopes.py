"""Gradients behind a norm, taken to the stream before it, for many gradients of one stream at once."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge.generalized_components.normalization import NormalizationBridge

SHOWN = ("hook_in", "hook_scale", "hook_normalized", "hook_out")
"""What a norm must show of a run."""


def before_norm(
    norm: Any, shown: dict[str, Float[Tensor, "b n _"]], slope: Float[Tensor, "v b n d"]
) -> Float[Tensor, "v b n d"]:
    """The transposed Jacobian of the norm times each gradient.

    With y = γ x̂ + β and x̂ = (x − mean)/σ it is (1 − 11ᵀ/d − x̂x̂ᵀ/d) γ/σ (no mean for RMSNorm), five passes over the
    gradients. A norm that is not of this form, judged by its own output, is differentiated by torch.
    """
    found = _parts(norm, shown)
    if found is None:
        with torch.enable_grad():
            resid = shown["hook_in"].detach().expand_as(slope).clone().requires_grad_()
            return torch.autograd.grad(norm(resid), resid, slope)[0]
    unit, gain, centred = found
    out = slope * gain
    if centred:
        out -= out.mean(-1, keepdim=True)
    along = torch.einsum("vbnd,bnd->vbn", out, unit) / -unit.shape[-1]
    return out.addcmul_(along[..., None], unit)


def _parts(norm: Any, shown: dict[str, Tensor]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"], bool] | None:
    """x̂, γ/σ and whether the mean is taken off; None where they do not give what the norm gave."""
    if not isinstance(norm, NormalizationBridge):
        return None
    unit, scale, out = (shown[name].detach() for name in ("hook_normalized", "hook_scale", "hook_out"))
    module = norm.original_component
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    gain: Any = 1.0 if weight is None else weight + 1 if norm.uses_weight_offset else weight
    said = unit * gain + (0.0 if bias is None else bias)
    near = 1e3 * torch.finfo(torch.promote_types(out.dtype, torch.float32)).eps if out.dtype.itemsize > 2 else 0.02
    if said.shape != out.shape or not torch.allclose(said.to(out.dtype), out, rtol=near, atol=near):
        return None
    return unit.to(out.dtype), (gain / scale).expand_as(unit).to(out.dtype), not norm.uses_rms_norm
