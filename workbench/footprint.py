"""What a forward takes while it runs, estimated from the model's sizes: what a budget of memory is divided by."""

from __future__ import annotations

from typing import Any


def forward_bytes(model: Any, tokens: int, logits: int = 1) -> int:
    """Bytes that one row of a forward without gradients takes at its peak, weights and what is kept of it left out.

    tokens: of the row. logits: positions whose logits are made. Counted are the tensors of one layer: the stream and its
    norms, queries, keys, values and their turned copies, the MLP's; and logits once more in float32. Memory grows with
    tokens, never with their square. Vision towers are not counted.
    """
    cfg, item = model.bridge.cfg, model.dtype.itemsize
    heads = (model.n_heads + model.n_kv_heads) * head_dim(model)
    layer = tokens * (6 * int(cfg.d_model) + 3 * heads + 3 * inner(model)) * item
    return layer + logits * int(cfg.d_vocab) * (item + 4)


def stream_bytes(model: Any, tokens: int) -> int:
    """The residual stream of a row at one place."""
    return tokens * int(model.bridge.cfg.d_model) * model.dtype.itemsize


def outputs_bytes(model: Any, tokens: int) -> int:
    """What all heads of one layer give, before the projection."""
    return tokens * model.n_heads * head_dim(model) * model.dtype.itemsize


def cache_bytes(model: Any, tokens: int, layers: int | None = None) -> int:
    """Keys and values of a row in some layers, all if None."""
    over = model.n_layers if layers is None else layers
    return 2 * over * tokens * model.n_kv_heads * head_dim(model) * model.dtype.itemsize


def head_dim(model: Any) -> int:
    """Width of a head."""
    return int(model.bridge.cfg.d_head)


def inner(model: Any) -> int:
    """Width of the MLP inside."""
    return int(getattr(model.bridge.cfg, "d_mlp", None) or 4 * int(model.bridge.cfg.d_model))
