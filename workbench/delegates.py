"""Which attention bridges of TransformerLens the seam can hand over to Hugging Face, and how each is handed over.

split: TransformerLens computes attention itself from q, k, v projections that are Hugging Face's own modules; the
Hugging Face module does the same and asks the seam. joint: one projection gives q, k and v, and the bridge's own
splitting is kept. native: the bridge always leaves attention to Hugging Face, and can show a pattern but not edit it.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge
from transformer_lens.model_bridge.generalized_components.gated_delta_net import GatedDeltaNetBridge
from transformer_lens.model_bridge.generalized_components.joint_qkv_attention import JointQKVAttentionBridge
from transformer_lens.model_bridge.generalized_components.joint_qkv_position_embeddings_attention import (
    JointQKVPositionEmbeddingsAttentionBridge,
)
from transformer_lens.model_bridge.generalized_components.position_embeddings_attention import (
    PositionEmbeddingsAttentionBridge,
)

FIRED = {"hook_in", "hook_out", "hook_hidden_states", "hook_rot_q", "hook_rot_k"}
"""Hook points of an attention bridge that the delegate fires itself; those of q, k, v, o fire by delegation."""


def kind(attention: Any) -> str | None:
    """How an attention bridge is delegated, judged by the methods it really runs; None: not at all."""
    cls = type(attention)
    if not isinstance(attention, AttentionBridge) or getattr(attention.original_component, "config", None) is None:
        return None
    if isinstance(attention, PositionEmbeddingsAttentionBridge):  # a subclass's extras before the scores are HF's, too
        normed = cls._pre_output_projection is not PositionEmbeddingsAttentionBridge._pre_output_projection
        return None if normed else "split"  # a norm over all heads: their outputs are no parts of a sum
    if isinstance(attention, JointQKVAttentionBridge):
        known = (JointQKVAttentionBridge, JointQKVPositionEmbeddingsAttentionBridge)
        same = any(cls._reconstruct_attention is k._reconstruct_attention for k in known)
        return "joint" if same and cls.forward is JointQKVAttentionBridge.forward else None
    projected = all(getattr(attention, part, None) is not None for part in "qkvo")
    return "native" if projected and cls.forward is AttentionBridge.forward else None


def gated(attention: Any) -> bool:
    """Whether a gate stands between a head's output and hook_z."""
    if getattr(attention.config, "gated_q_proj", False):
        return True
    return any(hasattr(attention.original_component, name) for name in ("gate", "gate_proj", "g_proj"))


def needs_eager(attention: Any) -> bool:
    """Whether somebody asks this layer for what only the eager bridge can give."""
    config = attention.config
    if any(getattr(config, flag, False) for flag in ("use_attn_result", "use_split_qkv_input", "use_attn_in")):
        return True
    if getattr(attention, "_reorder_and_upcast_attn", False):
        return True
    # by identity: the bridges of q, k, v, o are found under the names of the Hugging Face module's projections, too
    fired = {id(p) for part in "qkvo" if hasattr(attention, part) for p in getattr(attention, part).modules()}
    for name, module in attention.named_modules():
        if isinstance(module, HookPoint) and module.has_hooks() and name not in FIRED and id(module) not in fired:
            return True
    return False


def mend(bridge: Any) -> None:
    """Give the bridges of TransformerLens 4.3 the key-value cache under the name that they look for.

    Since transformers 5.24 layers are handed `cache`, formerly `past_key_values` and `cache_params`. The bridges know
    the old names only and take their absence for no past at all: each decoded token would attend to itself alone (or
    begin its linear attention anew), without an error, in the seam, on layers that go the eager way and on the plain
    bridge. So this stays, inside `Seam.on` or not.
    """
    for block in bridge.blocks:
        for module in block.children():
            if isinstance(module, AttentionBridge):
                object.__setattr__(module, "_update_kv_cache", types.MethodType(_update_kv_cache, module))
            if isinstance(module, GatedDeltaNetBridge):
                object.__setattr__(module, "forward", types.MethodType(_linear_attention, module))


def _update_kv_cache(self: Any, k: Tensor, v: Tensor, cache: Any = None, **kwargs: Any) -> tuple[Tensor, Tensor]:
    if cache is not None:
        kwargs["past_key_values"] = cache
    return type(self)._update_kv_cache(self, k, v, **kwargs)


def _linear_attention(self: Any, *args: Any, **kwargs: Any) -> Any:
    if kwargs.get("cache") is not None:
        return self._native_forward(*args, **kwargs)
    return type(self).forward(self, *args, **kwargs)
