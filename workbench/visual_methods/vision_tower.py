"""What the class token of a vision tower looks at, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import Unsupported

ATTENTION = "CLIPAttention"
"""The class of attention in vision towers that have a class token."""


@torch.no_grad()
def class_attention(model: Any, inputs: Mapping[str, Tensor]) -> list[Float[Tensor, "b parts"]]:
    """Attention of the class token to each part of the picture, mean over heads, one entry a vision layer.

    From the projected queries and keys of one forward of the tower, whatever computes its attention. The class token's
    own share is left out, so rows sum to less than one. Raises Unsupported for a tower without a class token.
    """
    hf = model.bridge.original_model
    vision_layers(model)
    layers = _attentions(hf)
    projected: dict[tuple[int, str], Tensor] = {}

    def keep(layer: int, name: str) -> Any:
        def hook(module: Any, args: Any, out: Any) -> None:
            projected[layer, name] = out[0] if isinstance(out, tuple) else out

        return hook

    handles = [
        getattr(layer, f"{name}_proj").register_forward_hook(keep(i, name))
        for i, layer in enumerate(layers)
        for name in "qk"
    ]
    try:
        hf.model.get_image_features(pixel_values=inputs["pixel_values"])
    finally:
        for handle in handles:
            handle.remove()
    return [_row(projected[i, "q"], projected[i, "k"], int(layer.num_heads)) for i, layer in enumerate(layers)]


def _row(q: Float[Tensor, "b n d"], k: Float[Tensor, "b n d"], heads: int) -> Float[Tensor, "b parts"]:
    first = q[:, 0].unflatten(-1, (heads, -1)).float()
    scores = torch.einsum("bhd,bnhd->bhn", first, k.unflatten(-1, (heads, -1)).float())
    return (scores * first.shape[-1] ** -0.5).softmax(-1).mean(1)[:, 1:]


def _attentions(hf: Any) -> list[Any]:
    found: dict[int, Any] = {}
    for module in hf.modules():
        if type(module).__name__ == ATTENTION:
            found.setdefault(id(module), module)
    return list(found.values())


def vision_layers(model: Any) -> int:
    """Layers of the vision tower. Raises Unsupported where it has no class token."""
    layers = _attentions(model.bridge.original_model)
    if not layers:
        raise Unsupported(f"{model.name}: its vision tower has no class token, whose attention this method needs")
    return len(layers)
