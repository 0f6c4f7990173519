"""One run of the prompts through the seam, and what path patching needs of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from workbench_kernels import AttentionSpec, attend

from workbench.errors import Unsupported
from workbench.patching.columns import take
from workbench.plan import Plan

CACHES = ("cache", "past_key_values", "layer_past")
"""What attention layers call the keys and values of the past."""


@dataclass
class Layer:
    """What a later decode of a suffix needs of one layer."""

    keys: Float[Tensor, "b g n e"]
    values: Float[Tensor, "b g n e"]
    spec: AttentionSpec


@dataclass
class Recording:
    """resid: the stream that enters each block, and the one that leaves the last, at `columns`. z: the heads' outputs
    there. logits: those of the last valid column. layers, call, and stream, which enters the lowest of them: only where a
    decode of a suffix was asked for."""

    columns: Int[Tensor, " b"]
    ends: Int[Tensor, " b"]
    resid: list[Float[Tensor, "b d"]] = field(default_factory=list)
    z: dict[int, Float[Tensor, "b h e"]] = field(default_factory=dict)
    final: Float[Tensor, "b d"] = field(default_factory=lambda: torch.empty(0))
    logits: Float[Tensor, "b v"] = field(default_factory=lambda: torch.empty(0))
    layers: dict[int, Layer] = field(default_factory=dict)
    stream: Float[Tensor, "b n d"] | None = None
    call: dict[int, tuple[bool, dict[str, Any]]] = field(default_factory=dict)
    lowest: int | None = None


@torch.no_grad()
def record(
    model: Any, tokens: Int[Tensor, "b n"], attention_mask: Tensor | None, columns: Int[Tensor, " b"],
    ends: Int[Tensor, " b"], from_layer: int | None = None,
) -> Recording:  # fmt: skip
    """Run the prompts once. from_layer: keep what a decode of a suffix above this layer needs, too."""
    out = Recording(columns, ends, lowest=from_layer)
    wanted = ends.unique()
    extra = {} if attention_mask is None else {"attention_mask": attention_mask.to(tokens.device).long()}
    with model.seam.on(Plan(attention=_recorder(out, from_layer))), _streams(model, out, from_layer):
        logits = model.bridge(tokens, return_type="logits", use_cache=False, logits_to_keep=wanted, **extra)
    if set(out.z) != set(range(model.n_layers)):
        raise Unsupported(
            f"layers {sorted(set(range(model.n_layers)) - set(out.z))} did not ask the seam for attention"
        )
    out.logits = take(logits, torch.searchsorted(wanted, ends)[:, None])[:, 0]
    return out


def _recorder(out: Recording, from_layer: int | None) -> Any:
    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        z, _ = attend(q, k, v, spec)
        out.z[layer] = take(z.transpose(1, 2), out.columns[:, None])[:, 0]
        if from_layer is not None and layer >= from_layer:
            out.layers[layer] = Layer(k, v, spec)
        return z

    return attention


@contextlib.contextmanager
def _streams(model: Any, out: Recording, from_layer: int | None) -> Iterator[None]:
    """Hooks that keep the residual stream and how the attention layers are called."""

    def enters(x: Tensor, hook: Any) -> None:
        if from_layer is not None and len(out.resid) == from_layer:
            out.stream = x
        out.resid.append(take(x, out.columns[:, None])[:, 0])

    def leaves(x: Tensor, hook: Any) -> None:
        enters(x, hook)
        out.final = take(x, out.ends[:, None])[:, 0]

    hooks = [(f"blocks.{i}.hook_in", enters) for i in range(model.n_layers)]
    hooks.append((f"blocks.{model.n_layers - 1}.hook_out", leaves))
    handles = []
    for layer in range(model.n_layers) if from_layer is not None else ():
        handles.append(model.seam.layers[layer].register_forward_pre_hook(_calls(out, layer), with_kwargs=True))
    try:
        with model.bridge.hooks(fwd_hooks=hooks):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _calls(out: Recording, layer: int) -> Any:
    def called(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        kept |= {name: None for name in CACHES if name in kept}
        out.call[layer] = (bool(args), kept)

    return called
