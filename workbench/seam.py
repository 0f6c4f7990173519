"""Puts `attend` beneath a TransformerBridge and keeps its hooks alive (recipe A: delegate to Hugging Face).

A registered attention function and mask function receive the projected q, k, v and a compact description of the mask,
so hook_q/k/v/z, residual and MLP hooks fire and edit while no N×N tensor exists. A layer on which somebody has hooked
what only the eager bridge can fire (hook_pattern, hook_attn_scores, …) takes the eager way by itself.
"""

from __future__ import annotations

import contextlib
import types
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge
from transformer_lens.model_bridge.generalized_components.joint_qkv_attention import JointQKVAttentionBridge
from transformer_lens.model_bridge.generalized_components.joint_qkv_position_embeddings_attention import (
    JointQKVPositionEmbeddingsAttentionBridge,
)
from transformer_lens.model_bridge.generalized_components.position_embeddings_attention import (
    PositionEmbeddingsAttentionBridge,
)
from transformers import AttentionInterface, AttentionMaskInterface
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, Statistics

from workbench import backends, kept_rows
from workbench.by_hooks import hooked
from workbench.eager import eager_edits
from workbench.errors import Unsupported
from workbench.looking import from_scores
from workbench.masks import CompactMask, compact_mask
from workbench.plan import Plan

NAME = "workbench"
FIRED = {"hook_in", "hook_out", "hook_hidden_states", "hook_rot_q", "hook_rot_k"}
"""Hook points of an attention bridge that the delegate fires itself; those of q, k, v, o fire by delegation."""


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: CompactMask | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What Hugging Face's attention modules call. q, k, v are after rotary embedding; k and v hold the cache."""
    seam: Seam = module._workbench_seam()
    bridge: AttentionBridge = module._workbench_bridge()
    if not isinstance(attention_mask, CompactMask):
        raise Unsupported(f"{type(module).__name__} gave the seam a {type(attention_mask).__name__} for a mask")
    if isinstance(bridge, PositionEmbeddingsAttentionBridge):
        query = bridge.hook_rot_q(query) if hasattr(bridge, "hook_rot_q") else query
        if hasattr(bridge, "hook_rot_k") and bridge.hook_rot_k.has_hooks():
            new = query.shape[2]  # the cache's keys have been seen by the hook before
            key = torch.cat([key[:, :, :-new], bridge.hook_rot_k(key[:, :, -new:])], 2)
    spec = attention_mask.spec(scaling or query.shape[-1] ** -0.5, softcap, s_aux)
    z = seam.attend(module._workbench_layer, query, key, value, spec, attention_mask)
    return z.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, compact_mask)  # type: ignore[arg-type]  # any object may stand for the mask


class Seam:
    """The seam of one bridge. Inside `on(plan)` its attention layers run through `attend`; outside it is untouched."""

    def __init__(self, bridge: Any) -> None:
        self.bridge = bridge
        self.layers: dict[int, Any] = {}
        for i, block in enumerate(bridge.blocks):
            attention = getattr(block, "attn", None)
            if attention is not None:
                self.layers[i] = attention
            if isinstance(attention, AttentionBridge):
                object.__setattr__(attention, "_update_kv_cache", types.MethodType(_update_kv_cache, attention))
        self.plan: Plan | None = None
        self.last = max(self.layers, default=-1)

    @property
    def unsupported(self) -> dict[int, str]:
        """Attention layers whose bridge class the seam does not know."""
        return {i: type(a).__name__ for i, a in self.layers.items() if _kind(a) is None}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, mask: CompactMask) -> Tensor:
        """One layer's attention by the plan."""
        plan = self.plan or Plan()
        edits = plan.edits_of(layer, mask, from_scores(q, k, spec))
        want = plan.reductions(layer, mask) if plan.reductions else None
        asked = [(o, *request) for o in plan.observers for request in o.requests(mask)]
        if want is None and asked:  # the first request rides on the forward itself
            observer, first, probes = asked.pop(0)
            z, stats = backends.attend(plan.backend, q, k, v, spec, edits, first)
            observer.read(layer, probes, stats, mask)
        else:
            z, stats = self._attend(layer, q, k, v, spec, edits, want, plan)
            if want is not None:
                plan.found.setdefault(layer, []).append(stats)
        for observer, request, probes in asked:
            stats = backends.statistics(plan.backend, q, k, z, spec, edits, request)
            observer.read(layer, probes, stats, mask)
        return z

    def _attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: list[HeadEdits],
        want: Reductions | None, plan: Plan,
    ) -> tuple[Tensor, Statistics]:  # fmt: skip
        rows = plan.kept if layer == self.last and not plan.observers else None
        if rows is not None and kept_rows.suffice(rows, edits, want):
            return kept_rows.attend(plan.backend, q, k, v, spec, edits, want, rows)
        return backends.attend(plan.backend, q, k, v, spec, edits, want)

    def nobody_looks_behind_the_last_attention(self) -> bool:
        """Whether no hook would see rows of the last block's output; those that nobody wants need no attention."""
        if self.last != len(self.bridge.blocks) - 1:
            return False
        ahead = (f"blocks.{self.last}.", "ln_final", "unembed")
        hooks = self.bridge.hook_dict.items()
        return not any(point.has_hooks() for name, point in hooks if name.startswith(ahead))

    @contextlib.contextmanager
    def on(self, plan: Plan) -> Iterator[Plan]:
        """Run the bridge through `attend` by this plan; an exception restores everything."""
        if self.unsupported:
            layer, name = next(iter(self.unsupported.items()))
            raise Unsupported(f"layer {layer} has attention of the kind {name}, which the seam does not know")
        outer, self.plan = self.plan, plan
        try:
            if outer is None:
                with self._installed():
                    yield plan
            else:
                yield plan
        finally:
            self.plan = outer

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        configs = {id(a.original_component.config): a.original_component.config for a in self.layers.values()}
        before = {i: c._attn_implementation for i, c in configs.items()}
        try:
            for config in configs.values():
                config._attn_implementation = NAME
            for layer, attention in self.layers.items():
                _install(self, layer, attention)
            yield
        finally:
            for i, config in configs.items():
                config._attn_implementation = before[i]
            for attention in self.layers.values():
                for name in ("forward", "_reconstruct_attention"):
                    attention.__dict__.pop(name, None)

    @contextlib.contextmanager
    def skipping(self, layers: int) -> Iterator[None]:
        """The first blocks pass the residual stream on unchanged (they are not computed)."""

        def identity(self: Any, *args: Any, **kwargs: Any) -> Any:
            return args[0] if args else kwargs["hidden_states"]

        blocks = list(self.bridge.blocks)[:layers]
        try:
            for block in blocks:
                object.__setattr__(block, "forward", types.MethodType(identity, block))
            yield
        finally:
            for block in blocks:
                block.__dict__.pop("forward", None)


def _update_kv_cache(self: Any, k: Tensor, v: Tensor, cache: Any = None, **kwargs: Any) -> tuple[Tensor, Tensor]:
    # transformers 5.24 hands the attention layers `cache`, until then `past_key_values`. TransformerLens 4.3 knows the
    # old name only and takes its absence for no past at all: each decoded token would attend to itself alone, without
    # an error, in `_joint`, on layers that go the eager way and on the plain bridge. So this stays, inside `on` or not.
    if cache is not None:
        kwargs["past_key_values"] = cache
    return type(self)._update_kv_cache(self, k, v, **kwargs)


def _kind(attention: Any) -> str | None:
    """How an attention bridge is delegated, judged by the methods it really runs."""
    cls = type(attention)
    if isinstance(attention, PositionEmbeddingsAttentionBridge):
        return "split" if cls.forward is PositionEmbeddingsAttentionBridge.forward else None
    known = (JointQKVAttentionBridge, JointQKVPositionEmbeddingsAttentionBridge)
    if isinstance(attention, JointQKVAttentionBridge):
        same = any(cls._reconstruct_attention is k._reconstruct_attention for k in known)
        return "joint" if same and cls.forward is JointQKVAttentionBridge.forward else None
    return None


def _needs_eager(attention: Any) -> bool:
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


def _install(seam: Seam, layer: int, attention: Any) -> None:
    module = attention.original_component
    for name, value in (("seam", weakref.ref(seam)), ("bridge", weakref.ref(attention)), ("layer", layer)):
        object.__setattr__(module, f"_workbench_{name}", value)
    joint = _kind(attention) == "joint"
    name = "_reconstruct_attention" if joint else "forward"
    original = getattr(attention, name)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _needs_eager(self) or (seam.plan is not None and seam.plan.backend == "hooks"):
            with _eagerly(seam, layer, self, kwargs):
                return original(*args, **kwargs)
        if joint:
            return _joint(self, *args, **kwargs), None
        return AttentionBridge.forward(self, *args, **kwargs)

    # the bridge's __setattr__ would hand the function to the wrapped Hugging Face module
    object.__setattr__(attention, name, types.MethodType(run, attention))


@contextlib.contextmanager
def _eagerly(seam: Seam, layer: int, attention: Any, kwargs: dict[str, Any]) -> Iterator[None]:
    """Give the eager bridge a dense mask and apply this layer's edits behind the user's hooks."""
    mask, plan = kwargs.get("attention_mask"), seam.plan or Plan()
    if not isinstance(mask, CompactMask):
        raise Unsupported(f"{type(attention).__name__} got a {type(mask).__name__} for a mask")
    if plan.backend not in ("auto", "hooks"):
        raise Unsupported(
            f"layer {layer}: backend={plan.backend} has no pattern to show to a hook: use auto or hooks, or remove the hook"
        )
    heads = int(attention.config.n_heads)
    dtype = next(attention.original_component.parameters()).dtype
    if plan.backend == "hooks":
        kwargs["attention_mask"] = mask.dense(dtype, heads, plan.memory)
        with hooked(plan, layer, attention, mask):
            yield
        return
    asked = any(o.requests(mask) for o in plan.observers)
    if asked or (plan.reductions is not None and plan.reductions(layer, mask) is not None):
        raise Unsupported(
            f"layer {layer}: statistics and hooks on the pattern cannot be had in one forward; remove the hook"
        )
    kwargs["attention_mask"] = mask.dense(dtype, heads, plan.memory)
    if plan.edits is None:
        yield
        return
    with eager_edits(attention, lambda look: plan.edits_of(layer, mask, look), mask.spec(1.0), heads):
        yield


def _joint(attention: Any, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Tensor:
    """The fused-QKV bridges' reconstruction with `attend` in the place of scores, softmax and values."""
    config = attention.config
    heads = int(config.n_heads)
    kv_heads = getattr(config, "n_key_value_heads", None) or heads
    q, k, v, batch, length, head_dim = attention._reshape_qkv_to_heads(q, k, v, heads, kv_heads)
    positions = kwargs.get("position_embeddings")
    if isinstance(positions, tuple) and hasattr(attention, "_apply_rotary_pos_emb"):
        q, k = attention._apply_rotary_pos_emb(q, k, *attention._apply_position_embedding_hooks(positions))
    k, v = attention._update_kv_cache(k, v, **kwargs)
    scale = head_dim**-0.5
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) and attention._layer_idx is not None:
        scale /= attention._layer_idx + 1
    z, _ = _attention(attention.original_component, q, k, v, kwargs.get("attention_mask"), scaling=scale)
    return attention._apply_output_projection(z.reshape(batch, length, heads * head_dim))
