"""Puts `attend` beneath a TransformerBridge and keeps its hooks alive (recipe A: delegate to Hugging Face).

A registered attention function and mask function receive the projected q, k, v and a compact description of the mask,
so hook_q/k/v/z, residual and MLP hooks fire and edit while no N×N tensor exists. A layer on which somebody has hooked
what only the eager bridge can fire (hook_pattern, hook_attn_scores, …) takes the eager way by itself.
"""

from __future__ import annotations

import contextlib
import types
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge
from transformer_lens.model_bridge.generalized_components.position_embeddings_attention import (
    PositionEmbeddingsAttentionBridge,
)
from transformers import AttentionInterface, AttentionMaskInterface
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, Statistics

from workbench import backends, delegates, kept_rows
from workbench.by_hooks import hooked
from workbench.errors import Unsupported
from workbench.hiding import hidden, without
from workbench.looking import from_scores
from workbench.masks import CompactMask, compact_mask
from workbench.plan import Plan

NAME = "workbench"


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
    seam.reached.add(module._workbench_layer)
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
        delegates.mend(bridge)
        self.plan: Plan | None = None
        self.reached: set[int] = set()  # layers that have called `attend` in the forward at hand
        self.last = max(self.layers, default=-1)

    @property
    def unsupported(self) -> dict[int, str]:
        """Attention layers whose bridge class the seam does not know."""
        return {i: type(a).__name__ for i, a in self.layers.items() if delegates.kind(a) is None}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, mask: CompactMask) -> Tensor:
        """One layer's attention by the plan."""
        plan = self.plan or Plan()
        if plan.attention is not None:
            return plan.attention(layer, q, k, v, spec)
        edits = plan.edits_of(layer, mask, from_scores(q, k, spec))
        if any(e.replace is not None for e in edits) and delegates.gated(self.layers[layer]):
            raise Unsupported(f"layer {layer} gates its heads' outputs: they can be masked or scaled, not replaced")
        want = plan.reductions(layer, mask) if plan.reductions else None
        asked = [(o, *request) for o in plan.observers for request in o.requests(mask)]
        if want is None and asked and asked[0][2][0].hides is None:  # the first request rides on the forward itself
            observer, first, probes = asked.pop(0)
            z, stats = backends.attend(plan.backend, q, k, v, spec, edits, first)
            observer.read(layer, probes, stats, mask)
        else:
            z, stats = self._attend(layer, q, k, v, spec, edits, want, plan)
            if want is not None:
                plan.found.setdefault(layer, []).append(stats)
        for observer, request, probes in asked:
            cut, gone = edits, None
            if (hides := probes[0].hides) is not None:
                gone = hidden(hides, mask, q.shape[1], from_scores(q, k, spec), edits)
                cut = [without(gone)]
            stats = backends.statistics(plan.backend, q, k, z, spec, cut, request)
            stats.left_out = gone
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


def _install(seam: Seam, layer: int, attention: Any) -> None:
    module = attention.original_component
    for name, value in (("seam", weakref.ref(seam)), ("bridge", weakref.ref(attention)), ("layer", layer)):
        object.__setattr__(module, f"_workbench_{name}", value)
    kind = delegates.kind(attention)
    name = "_reconstruct_attention" if kind == "joint" else "forward"
    original = getattr(attention, name)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if delegates.needs_eager(self) or (seam.plan is not None and seam.plan.backend == "hooks"):
            with (_shown if kind == "native" else _eagerly)(seam, layer, self, kwargs):
                return original(*args, **kwargs)
        if kind == "joint":
            return _joint(self, *args, **kwargs), None
        seam.reached.discard(layer)
        out = AttentionBridge.forward(self, *args, **kwargs)
        if layer not in seam.reached:
            raise Unsupported(f"layer {layer}: {type(module).__name__} computes attention without asking transformers")
        return out

    # the bridge's __setattr__ would hand the function to the wrapped Hugging Face module
    object.__setattr__(attention, name, types.MethodType(run, attention))


@contextlib.contextmanager
def _eagerly(seam: Seam, layer: int, attention: Any, kwargs: dict[str, Any]) -> Iterator[None]:
    """Give the eager bridge a dense mask, and this layer its edits and statistics behind the user's hooks."""
    mask, plan = kwargs.get("attention_mask"), seam.plan or Plan()
    if not isinstance(mask, CompactMask):
        raise Unsupported(f"{type(attention).__name__} got a {type(mask).__name__} for a mask")
    if plan.backend not in ("auto", "hooks"):
        raise Unsupported(
            f"layer {layer}: backend={plan.backend} has no pattern to show to a hook: use auto or hooks, or remove the hook"
        )
    heads = int(attention.config.n_heads)
    dtype = next(attention.original_component.parameters()).dtype
    kwargs["attention_mask"] = mask.dense(dtype, heads, plan.memory)
    if plan.edits is None and plan.reductions is None and not plan.observers:
        yield
        return
    with hooked(plan, layer, attention, mask):
        yield


@contextlib.contextmanager
def _shown(seam: Seam, layer: int, attention: Any, kwargs: dict[str, Any]) -> Iterator[None]:
    """A layer that the bridge leaves to Hugging Face shows its pattern and cannot change it: who tries is told."""
    mask, plan, config = kwargs.get("attention_mask"), seam.plan or Plan(), attention.original_component.config
    if not isinstance(mask, CompactMask):
        raise Unsupported(f"{type(attention).__name__} got a {type(mask).__name__} for a mask")
    if plan.edits is not None or plan.reductions is not None or plan.observers:
        raise Unsupported(
            f"layer {layer}: {type(attention).__name__} leaves attention to Hugging Face, so whole patterns go with no "
            "edits and no statistics: take the hook off its pattern, or leave backend='hooks'"
        )
    dtype = next(attention.original_component.parameters()).dtype
    kwargs["attention_mask"] = mask.dense(dtype, int(attention.config.n_heads), plan.memory)
    config._attn_implementation = "eager"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*edit is discarded")
            yield
    except UserWarning as warning:
        raise Unsupported(
            f"layer {layer}: {type(attention).__name__} cannot honour an edit by a hook on its pattern or scores; "
            "use wb.set_pattern, wb.amplify and their like"
        ) from warning
    finally:
        config._attn_implementation = NAME


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
