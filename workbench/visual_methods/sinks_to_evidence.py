"""VAR: heads that look at the picture take weight from its sinks, parts that many queries look at whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.errors import Unsupported
from workbench.interventions import Intervention, redirect
from workbench.probes.phi import default_tau
from workbench.visual.picture_sinks import LEAST, RHO, sink_dimensions
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.pictures import Pictures


def sinks(
    x: Float[Tensor, "b n d"], inside: Bool[Tensor, "b n"], dims: Sequence[int], tau: float
) -> Bool[Tensor, "b n"]:
    """Parts of pictures with Φ ≥ tau: |x| / rms(x) in the sink dimensions of the model."""
    sizes = x.abs() / x.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)
    return inside & (sizes[..., list(dims)].amax(-1) >= tau)


def centric(
    row: Float[Tensor, "b h n"], found: Bool[Tensor, "b n"], inside: Bool[Tensor, "b n"]
) -> Bool[Tensor, "b h"]:
    """Image-centric heads of one query row, where there is a sink and something to give to."""
    at_sinks, at_picture = ((row * flags[:, None]).sum(-1) for flags in (found, inside))
    return _movable(found, inside)[:, None] & (at_picture >= LEAST) & (at_sinks <= RHO * at_picture)


def moved(
    row: Float[Tensor, "b h n"], heads: Bool[Tensor, "b h"], found: Bool[Tensor, "b n"], inside: Bool[Tensor, "b n"],
    gain: float,
) -> Float[Tensor, "b h n"]:  # fmt: skip
    """The row after the edit: what sinks lose goes to the picture's other parts, in proportion."""
    others = (inside & ~found)[:, None]
    have = (row * others).sum(-1, keepdim=True)
    freed = (1 - gain) * (row * found[:, None]).sum(-1, keepdim=True)
    new = torch.where(found[:, None], gain * row, row) + others * row * freed / have.clamp_min(1e-30)
    return torch.where(heads[..., None] & (have > 0), new, row)


@dataclass(frozen=True, eq=False)
class Found:
    """Of one layer, picture by picture: its visual sinks, and its image-centric heads."""

    sinks: Bool[Tensor, "b n"]
    heads: Bool[Tensor, "b h"]


@torch.no_grad()
def found(asked: Asked) -> dict[int, Found]:
    """By layer, from one forward in which each layer's edit holds before the next is looked at.

    For a control other heads of a picture stand in, as many, where there are sinks. Raises Unsupported for a model without
    sink dimensions, which has no visual sinks.
    """
    pictures, model = asked.pictures, asked.pictures.model
    tau, dims = _sinks_of(pictures)
    if not dims:
        raise Unsupported(
            f"{model.name}: its first token stands out in no dimension, so no part of a picture is a sink"
        )
    at: dict[int, Bool[Tensor, "b n"]] = {}
    out: dict[int, Found] = {}

    def on_stream(x: Tensor, hook: Any) -> None:
        at[hook.layer()] = sinks(x.float(), pictures.inside, dims, tau)

    def on_pattern(p: Tensor, hook: Any) -> Tensor:
        layer, row = hook.layer(), p[:, :, -1].float()
        out[layer] = Found(at[layer], centric(row, at[layer], pictures.inside))
        p = p.clone()
        p[:, :, -1] = moved(row, out[layer].heads, at[layer], pictures.inside, 1 - asked.strength).to(p)
        return p

    hooks = [(f"blocks.{i}.hook_resid_pre", on_stream) for i in asked.layers]
    hooks += [(f"blocks.{i}.attn.hook_pattern", on_pattern) for i in asked.layers]
    last = pictures.tokens.shape[1] - 1
    with model.bridge.hooks(fwd_hooks=hooks):
        model.forward(pictures.tokens, inputs=pictures.inputs, keep=slice(last, last + 1))
    return drawn(out, asked) if asked.control else out


def _sinks_of(pictures: Pictures) -> tuple[float, Sequence[int]]:
    """Those that the pictures were given, else the default."""
    if pictures.sinks is not None:
        return pictures.sinks
    tau = default_tau(int(pictures.model.bridge.cfg.d_model))
    return tau, sink_dimensions(pictures.model, pictures.tokens[:1, :1], tau)


def drawn(by_layer: dict[int, Found], asked: Asked) -> dict[int, Found]:
    """Random heads in the place of a picture's own: as many in each layer, or as many in all layers that have sinks."""
    inside, own = asked.pictures.inside, torch.stack([f.heads for f in by_layer.values()], 1).cpu().numpy()
    there = torch.stack([_movable(f.sinks, inside) for f in by_layer.values()], 1).cpu().numpy()
    new = np.zeros_like(own)
    for b, free in enumerate(there):
        one_by_one = [[layer] for layer in np.flatnonzero(free)]
        for layers in one_by_one if asked.control == "layers" else [np.flatnonzero(free)]:
            held = own[b, layers]
            new[b, layers] = asked.rng.permutation(held.ravel()).reshape(held.shape)
    flags = torch.from_numpy(new).to(inside.device)
    return {layer: Found(f.sinks, flags[:, i]) for i, (layer, f) in enumerate(by_layer.items())}


def _movable(found: Bool[Tensor, "b n"], inside: Bool[Tensor, "b n"]) -> Bool[Tensor, " b"]:
    """Whether there is a sink and something to give to."""
    return found.any(-1) & (inside & ~found).any(-1)


def edits(asked: Asked) -> list[Intervention]:
    """The strength is the share that sinks lose, 1 − p."""
    by_layer, inside = found(asked), asked.pictures.inside
    out = []
    for b in range(len(asked.pictures)):
        own = []
        for layer, there in by_layer.items():
            if heads := [(layer, int(h)) for h in there.heads[b].nonzero()]:
                keys = tuple(there.sinks[b].nonzero().flatten().tolist())
                to = tuple((inside[b] & ~there.sinks[b]).nonzero().flatten().tolist())
                own.append(redirect(heads, keys, to, 1 - asked.strength, at="decode"))
        out.append(Intervention(tuple(own)))
    return out


METHOD = VisualMethod(
    name="sinks-to-evidence",
    help="VAR: image-centric heads take weight from visual sinks and give it to the picture's other parts",
    source="Kang et al. 2025, arXiv 2503.03321",
    strengths=(0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
    neutral=0.0,
    edits=edits,
    published=0.4,
    heads=True,
    left_out=(
        "heads are chosen once a picture, at the row that gives the first new token, where the paper chooses for each query"
    ),
)
