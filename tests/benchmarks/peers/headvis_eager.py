"""Peer: HeadVis' six corpus metrics from whole patterns, as Neuronpedia's pipeline takes them.

The model runs eagerly with `output_attentions`, every layer's N×N pattern is kept until the forward ends, and the metrics
are reductions of it (https://github.com/anthropics/headvis; definitions in docs/atlas.md). `streamed` is the most that can
be done about it: a hook of a TransformerBridge reduces each pattern as it comes and lets it go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

FAINT = 0.01
Metrics = Mapping[str, Float[Tensor, "layers h"]]


@torch.inference_mode()
def kept(plain: Any, tokens: Int[Tensor, "b n"]) -> Metrics:
    """From a Hugging Face model with attn_implementation="eager"."""
    patterns = plain(tokens, output_attentions=True).attentions
    places = _places(tokens)
    return _metrics([_sums(p, places) for p in patterns], places)


@torch.inference_mode()
def streamed(bridge: Any, tokens: Int[Tensor, "b n"]) -> Metrics:
    """From hooks on the patterns of a bridge as it comes."""
    places, found = _places(tokens), []

    def reduce(pattern: Tensor, hook: Any) -> None:
        found.append(_sums(pattern, places))

    hooks = [(f"blocks.{i}.attn.hook_pattern", reduce) for i in range(bridge.cfg.n_layers)]
    bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    return _metrics(found, places)


def _places(tokens: Int[Tensor, "b n"]) -> dict[str, Tensor]:
    """Distances [n, n], which key follows an earlier copy of the query's token [b, 1, n, n], rows with a copy [b, n]."""
    n = tokens.shape[1]
    far = (torch.arange(n)[:, None] - torch.arange(n)).to(torch.float32)
    same = tokens[:, :, None] == tokens[:, None, :]
    copies = same & (far > 0)
    follows = torch.nn.functional.pad(same[:, :, :-1], (1, 0)) & (far >= 0)
    return {"far": far.clamp_min(0), "follows": follows[:, None], "again": copies.any(-1)}


def _sums(p: Float[Tensor, "b h n n"], places: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " h"]]:
    """Of one layer, over all rows of all texts."""
    distance = (p * places["far"]).sum(-1)
    strong = torch.where(places["follows"] & (p >= FAINT), p, 0.0).sum(-1)
    return {
        "self": p.diagonal(dim1=-2, dim2=-1).sum((0, 2)), "previous": p.diagonal(-1, -2, -1).sum((0, 2)),
        "entropy": -torch.xlogy(p, p).sum((0, 2, 3)), "distance": distance.sum((0, 2)),
        "distance2": (p * places["far"] ** 2).sum((0, 2, 3)),
        "induction": (strong * places["again"][:, None]).sum((0, 2)),
    }  # fmt: skip


def _metrics(layers: list[dict[str, Tensor]], places: Mapping[str, Tensor]) -> Metrics:
    """Means over rows: all, those with a token before them, those whose token stood before."""
    s = {name: torch.stack([one[name] for one in layers]).double() for name in layers[0]}
    b, n = places["again"].shape
    rows, distance = b * n, s["distance"] / (b * n)
    return {
        "self": s["self"] / rows, "previous": s["previous"] / (b * (n - 1)), "entropy": s["entropy"] / rows,
        "distance": distance, "distance_variance": s["distance2"] / rows - distance**2,
        "induction": s["induction"] / places["again"].sum(),
    }  # fmt: skip


PEERS: dict[str, Callable[[Any, Tensor], Metrics]] = {
    "HF eager, output_attentions": kept,
    "bridge, hook_pattern": streamed,
}
