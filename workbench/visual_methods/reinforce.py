"""VHR: heads whose output hangs on the picture are turned up, picture by picture."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.interventions import Intervention, scale
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.asked import Asked


def divergences(seeing: Float[Tensor, "b heads d"], blind: Float[Tensor, "b heads d"]) -> Float[Tensor, "b heads"]:
    """VHD of the heads of a layer, ‖z − z without the picture‖₂ (Eq. 4), with the outlier rule.

    0 where VHD exceeds mean + sd over the layer's heads and the squared norm of the blind output does, too (sd over all
    heads, not an estimate from a sample).
    """
    found, size = (seeing - blind).norm(dim=-1), blind.square().sum(-1)
    return torch.where(_far(found) & _far(size), 0.0, found)


def _far(x: Float[Tensor, "b heads"]) -> Bool[Tensor, "b heads"]:
    return x > x.mean(-1, keepdim=True) + x.std(-1, correction=0, keepdim=True)


def picked(found: Float[Tensor, "b heads"]) -> Bool[Tensor, "b heads"]:
    """Above the layer's median."""
    return found > found.quantile(0.5, dim=-1, keepdim=True)


@torch.no_grad()
def chosen(asked: Asked) -> dict[int, Bool[Tensor, "b heads"]]:
    """Heads by layer, from one forward: each layer chooses where the chosen heads of those below are turned up.

    VHD is taken at the last token of the prompt, which gives the first new one; the run without pictures is not edited.
    """
    pictures, model, out = asked.pictures, asked.pictures.model, {}
    blind = pictures.blind.float()

    def hook(z: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        flags = picked(divergences(z[:, -1].float(), blind[layer]))
        out[layer] = _drawn(flags, asked) if asked.control == "layers" else flags
        z = z.clone()
        z[:, -1] *= torch.where(out[layer], asked.strength, 1.0)[..., None].to(z)
        return z

    hooks = [(f"blocks.{layer}.attn.hook_z", hook) for layer in asked.layers]
    last = pictures.tokens.shape[1] - 1
    with model.bridge.hooks(fwd_hooks=hooks):
        model.forward(pictures.tokens, inputs=pictures.inputs, keep=slice(last, last + 1))
    return _anywhere(out, asked) if asked.control == "anywhere" else out


def _drawn(flags: Bool[Tensor, "b heads"], asked: Asked) -> Bool[Tensor, "b heads"]:
    return torch.from_numpy(asked.rng.permuted(flags.cpu().numpy(), axis=1)).to(flags.device)


def _anywhere(flags: dict[int, Bool[Tensor, "b heads"]], asked: Asked) -> dict[int, Bool[Tensor, "b heads"]]:
    """As many heads of a picture, from all of the layers."""
    width = asked.pictures.model.n_heads
    drawn = _drawn(torch.cat(list(flags.values()), 1), asked)
    return {layer: drawn[:, i * width : (i + 1) * width] for i, layer in enumerate(flags)}


def edits(asked: Asked) -> list[Intervention]:
    """Outputs of a picture's heads times the strength, from the row that gives the first new token on."""
    flags, out = chosen(asked), []
    for b in range(len(asked.pictures)):
        heads = [(layer, int(head)) for layer, row in flags.items() for head in row[b].nonzero()]
        out.append(Intervention((scale(heads, asked.strength, at="decode"),)))
    return out


METHOD = VisualMethod(
    name="reinforce",
    help="VHR: heads that diverge above their layer's median without the picture count more",
    source="He et al., ACL 2025, arXiv 2412.13949",
    strengths=(1.1, 1.25, 1.5, 2.0, 3.0, 4.0),
    neutral=1.0,
    edits=edits,
    published=2.0,
    within=((0.5625, 1.0),),
    second=True,
    heads=True,
)
