"""Norms of activations that are not attention, taken as their hooks fire: residual stream, keys, values."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from workbench.probes.probe import Probe


def resid_norms(at: str = "hook_resid_post", name: str = "resid_norms") -> Probe:
    """‖x‖ of the residual stream at a hook point of each block, [layers, batch, positions]: massive activations."""
    return Probe(name, hook=(at, lambda model, x: x.float().norm(dim=-1)), joins=2, parts=True)


def key_norms(name: str = "key_norms") -> Probe:
    """‖k‖ of each kv head before rotary embedding, [layers, batch, kv heads, positions]."""
    return Probe(name, hook=("attn.hook_k", _by_kv_head), joins=3, parts=True)


def value_norms(name: str = "value_norms") -> Probe:
    """‖v‖ of each kv head, [layers, batch, kv heads, positions]: near zero at a drained sink."""
    return Probe(name, hook=("attn.hook_v", _by_kv_head), joins=3, parts=True)


def _by_kv_head(model: Any, x: Tensor) -> Tensor:
    heads = x if x.dim() == 4 else x.unflatten(-1, (model.n_kv_heads, -1))
    return heads.float().norm(dim=-1).transpose(1, 2)
