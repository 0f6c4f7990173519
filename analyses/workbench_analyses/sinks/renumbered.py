"""A window whose keys stand at new positions, as StreamingLLM has them (Xiao et al. 2024, arXiv 2309.17453).

There a cache of `sink` first and `recent` last keys is numbered from 0, so the sinks stay near. With rotary embeddings
scores depend on distances only: the distances within the recent keys are as before, and each sink's score is that of
a query at position sink + recent − 1. So one head's output needs two bands of scores, never N×N.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import interventions
from workbench.models import Model

AGREES = 2e-2
"""Relative difference up to which what is computed here counts as the model's own (bfloat16 rounds to 4e-3)."""
UNTURNED = ("hook_q", "hook_q_normed")
"""Where queries may be had before the rotary embedding."""


@torch.no_grad()
def windowed_outputs(
    model: Model, tokens: Int[Tensor, "1 n"], layer: int, heads: list[int], sink: int, recent: int
) -> Float[Tensor, "heads n d"] | None:
    """Outputs (hook_z) of heads that see a renumbered window. None where the model's positions are not plain rotary.

    What is plain is not guessed: turning the queries as this file does must give the model's own, and the same window
    at original positions must give what `wb.window` gives.
    """
    held = _captured(model, tokens, layer)
    truth = _captured(model, tokens, layer, interventions.window([(layer, h) for h in heads], sink, recent))
    if held is None or truth is None:
        return None
    last = torch.arange(tokens.shape[1], device=tokens.device).clamp_max(sink + recent - 1)
    group, out = model.n_heads // model.n_kv_heads, []
    for head in heads:
        q, k, v = held["q"][head], held["k"][head // group], held["v"][head // group]
        pre = next((held[x][head] for x in UNTURNED if x in held and _agree(_turned(held[x][head], held), q)), None)
        if pre is None or not _agree(_window(q, q, k, v, sink, recent), truth["z"][head]):
            return None
        out.append(_window(q, _turned(pre, held, last), k, v, sink, recent))
    return torch.stack(out)


def _captured(model: Model, tokens: Tensor, layer: int, edits: Any = None) -> dict[str, Tensor] | None:
    """q and k after rotary embedding, v, z of one layer, [heads, n, d], and the rotation, [n, d]."""
    known = model.bridge.hook_dict
    names = {"q": "hook_rot_q", "k": "hook_rot_k", "v": "hook_v", "z": "hook_z", **{x: x for x in UNTURNED}}
    points = {f"blocks.{layer}.attn.{hook}": name for name, hook in names.items()}
    points |= {"rotary_emb.hook_cos": "cos", "rotary_emb.hook_sin": "sin"}
    points = {point: name for point, name in points.items() if point in known}
    held: dict[str, Tensor] = {}

    def keeping(name: str) -> Any:
        def keep(x: Tensor, hook: Any) -> None:
            held[name] = x.detach()[0].float()

        return keep

    with model.bridge.hooks(fwd_hooks=[(point, keeping(name)) for point, name in points.items()]):
        model.forward(tokens, edits=edits)
    if not {"q", "k", "v", "z", "cos", "sin"} <= set(held):
        return None
    for name in set(held) - {"cos", "sin"}:
        heads, x = model.n_kv_heads if name in "kv" else model.n_heads, held[name]
        held[name] = (x if x.dim() == 3 else x.unflatten(-1, (heads, -1))).transpose(0, 1)
    return held if held["cos"].shape == held["q"].shape[1:] else None


def _turned(x: Float[Tensor, "n d"], held: dict[str, Tensor], at: Tensor | None = None) -> Float[Tensor, "n d"]:
    """Rotary embedding at the own positions, or at others."""
    cos, sin = (held[name] if at is None else held[name][at] for name in ("cos", "sin"))
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[:, half:], x[:, :half]], -1) * sin


def _agree(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=AGREES * float(b.abs().max()), rtol=0)


def _window(q: Tensor, for_sinks: Tensor, k: Tensor, v: Tensor, sink: int, recent: int) -> Float[Tensor, "n d"]:
    """One head over a band of `recent` keys and the first `sink` ones, which another query may score."""
    n, d = q.shape
    at = torch.arange(n, device=q.device)[:, None] - torch.arange(recent, device=q.device)[None]
    band = (k[at.clamp_min(0)] * q[:, None]).sum(-1).masked_fill(at < 0, float("-inf"))
    first = torch.arange(min(sink, n), device=q.device)
    far = (for_sinks @ k[first].T).masked_fill(first[None] > at[:, -1:] - 1, float("-inf"))
    p = (torch.cat([band, far], -1) * d**-0.5).softmax(-1)
    return (p[:, :recent, None] * v[at.clamp_min(0)]).sum(1) + p[:, recent:] @ v[first]
