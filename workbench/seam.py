"""Puts `attend` beneath a TransformerBridge and keeps its hooks alive (recipe A: delegate to Hugging Face).

A registered attention function and mask function receive the projected q, k, v and a compact description of the mask,
so hook_q/k/v/z, residual and MLP hooks fire and edit while no N×N tensor exists. A layer on which somebody has hooked
what only the eager bridge can fire (hook_pattern, hook_attn_scores, …) takes the eager way by itself.
"""

from __future__ import annotations

import contextlib
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
from transformers.masking_utils import causal_mask_function
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, Statistics, attend

from workbench import kept_rows
from workbench.eager import eager_edits
from workbench.errors import TooLarge, Unsupported

NAME = "workbench"
FIRED = {"hook_in", "hook_out", "hook_hidden_states", "hook_rot_q", "hook_rot_k"}
"""Hook points of an attention bridge that the delegate fires itself; those of q, k, v, o fire by delegation."""


@dataclass(frozen=True)
class CompactMask:
    """What Hugging Face says of a mask, without building it."""

    batch: int
    queries: int
    keys: int
    q_offset: int
    kv_offset: int
    allowed: Callable[..., Tensor] | None  # None: causal
    padding: Tensor | None
    reach: int | None
    first: Tensor | None
    device: torch.device

    def spec(self, scale: float, softcap: float | None = None, sinks: Tensor | None = None) -> AttentionSpec:
        """The mask as the kernels want it."""
        return AttentionSpec(
            scale=scale, q_offset=self.q_offset, kv_offset=self.kv_offset, padding=self.padding,
            allowed=self.allowed, reach=self.reach, first=self.first, softcap=softcap, sink_logits=sinks,
        )  # fmt: skip

    def dense(self, dtype: torch.dtype, heads: int, memory: int) -> Tensor:
        """The additive N×N mask for a layer that goes the eager way; refused when its scores would not fit."""
        size = self.batch * heads * self.queries * self.keys * 4 * 3  # scores, softmax and pattern in float32
        if size > memory:
            raise TooLarge(
                f"a hook on hook_pattern or hook_attn_scores needs the whole pattern: {size / 2**30:.1f} GiB for "
                f"{self.queries} tokens; limit {memory / 2**30:.1f} GiB, raise it with memory="
            )
        rows = torch.arange(self.queries, device=self.device)[None]
        seen = self.spec(1.0).visible(rows, slice(0, self.keys), self.batch).expand(self.batch, 1, -1, -1)
        return torch.zeros(seen.shape, dtype=dtype, device=self.device).masked_fill(~seen, torch.finfo(dtype).min)


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    device: torch.device | str = "cpu",
    **_: Any,
) -> CompactMask:
    padding = first = None
    if attention_mask is not None and not bool(attention_mask.all()):
        first = attention_mask.int().argmax(-1)
        padding = attention_mask[:, kv_offset : kv_offset + kv_length].bool()
        padding = torch.nn.functional.pad(padding, (0, kv_length - padding.shape[1]), value=True)
    return CompactMask(
        batch_size, q_length, kv_length, int(q_offset), int(kv_offset),
        None if mask_function is causal_mask_function else mask_function, padding, local_size, first,
        torch.device(device),
    )  # fmt: skip


@dataclass
class Plan:
    """What one forward is asked: edits and reductions per layer; what it found."""

    edits: Callable[[int, CompactMask], list[HeadEdits]] | None = None
    reductions: Callable[[int, CompactMask], Reductions | None] | None = None
    found: dict[int, list[Statistics]] = field(default_factory=dict)
    memory: int = 4 << 30
    kept: slice | None = None  # rows of the query axis whose logits are wanted; None: all

    def edits_of(self, layer: int, mask: CompactMask) -> list[HeadEdits]:
        """The edits of a layer, one list entry per set of query rows."""
        return [] if self.edits is None else self.edits(layer, mask)


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
AttentionMaskInterface.register(NAME, _mask)  # type: ignore[arg-type]  # any object may stand for the mask


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
        edits = plan.edits_of(layer, mask)
        want = plan.reductions(layer, mask) if plan.reductions else None
        rows = plan.kept if layer == self.last else None
        if rows is not None and kept_rows.suffice(rows, edits, want):
            z, stats = kept_rows.attend(q, k, v, spec, edits, want, rows)
        else:
            z, stats = attend(q, k, v, spec, edits[0] if edits else None, want)
            for more in edits[1:]:  # another phase: its query rows come from a forward of their own
                other, _ = attend(q, k, v, spec, more)
                assert more.queries is not None
                z = torch.where(more.queries[:, None, :, None], other, z)
        if want is not None:
            plan.found.setdefault(layer, []).append(stats)
        return z

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
    for name, module in attention.named_modules():
        top = name.split(".")[0]
        if isinstance(module, HookPoint) and module.has_hooks() and name not in FIRED and top not in "qkvo":
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
        if _needs_eager(self):
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
    if plan.reductions is not None and plan.reductions(layer, mask) is not None:
        raise Unsupported(
            f"layer {layer}: statistics and hooks on the pattern cannot be had in one forward; remove the hook"
        )
    heads = int(attention.config.n_heads)
    dtype = next(attention.original_component.parameters()).dtype
    kwargs["attention_mask"] = mask.dense(dtype, heads, plan.memory)
    with eager_edits(attention, plan.edits_of(layer, mask), mask.spec(1.0), mask.keys, heads):
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
