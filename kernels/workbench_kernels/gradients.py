"""Attention by blocks of queries whose backward pass makes each block's pattern again: O(N) memory, nothing N×N is kept.

Forward and backward run the same function of one block; what is saved between them are its inputs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from workbench_kernels.types import AttentionSpec, HeadEdits

TABLES = ("class_gain", "bias", "boost")
"""Edits of the pattern that gradients reach, besides the weights of replaced rows and the learned sinks."""

Part = Callable[[slice, slice, Tensor, Tensor, Tensor, AttentionSpec, HeadEdits | None], Tensor]
"""(rows, keys, q of the rows, k and v of the keys, spec, edits) to the output of the rows."""


def wanted(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits | None) -> bool:
    """Whether somebody will ask for gradients of the output."""
    leaves = (q, k, v, *tables(spec, edits))
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in leaves)


def tables(spec: AttentionSpec, edits: HeadEdits | None) -> list[Tensor | None]:
    """What is differentiable beside q, k and v."""
    held = [None] * len(TABLES) if edits is None else [getattr(edits, f) for f in TABLES]
    rows = None if edits is None or edits.rows is None else edits.rows.weights
    return [spec.sink_logits, rows, *held]


def _with(
    spec: AttentionSpec, edits: HeadEdits | None, held: Sequence[Tensor | None]
) -> tuple[AttentionSpec, HeadEdits | None]:
    """The spec and the edits with other tensors in the place of `tables`."""
    spec = replace(spec, sink_logits=held[0])
    if edits is None:
        return spec, None
    rows = None if edits.rows is None or held[1] is None else replace(edits.rows, weights=held[1])
    changed: dict[str, Any] = dict(zip(TABLES, held[2:], strict=True))
    return spec, replace(edits, **changed, rows=rows)


def blockwise(
    part: Part,
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: HeadEdits | None,
    rows: int,
) -> Float[Tensor, "b h q d"]:
    """`part` for so many queries at a time; differentiable once, in q, k, v and `tables`."""
    if wanted(q, k, v, spec, edits):
        return _Blockwise.apply(part, spec, edits, rows, q, k, v, *tables(spec, edits))  # type: ignore[return-value]
    return _forward(part, spec, edits, rows, q, k, v)


def _blocks(spec: AttentionSpec, rows: int, n: int, m: int) -> list[tuple[slice, slice]]:
    """Rows and the keys that they see."""
    cuts = [slice(i, min(n, i + rows)) for i in range(0, n, rows)]
    return [(cut, spec.keys(cut.start, cut.stop, m)) for cut in cuts]


def _forward(
    part: Part, spec: AttentionSpec, edits: HeadEdits | None, rows: int, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    pieces = _blocks(spec, rows, q.shape[2], k.shape[2])
    return torch.cat([part(r, j, q[:, :, r], k[:, :, j], v[:, :, j], spec, edits) for r, j in pieces], 2)


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        part, spec, edits, rows, q, k, v, *held = given
        ctx.part, ctx.rows, ctx.given = part, rows, (spec, edits)
        ctx.save_for_backward(q, k, v, *held)
        return _forward(part, spec, edits, rows, q, k, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q, k, v, *held = ctx.saved_tensors
        spec, edits = ctx.given
        out = [_room(x, needed) for x, needed in zip((q, k, v, *held), ctx.needs_input_grad[4:], strict=True)]
        for r, j in _blocks(spec, ctx.rows, q.shape[2], k.shape[2]):
            views: list[Any] = [(..., r, slice(None)), (..., j, slice(None)), (..., j, slice(None)), *[...] * len(held)]
            with torch.enable_grad():
                leaves = [
                    None if x is None else x[view].detach().requires_grad_(o is not None)
                    for x, o, view in zip((q, k, v, *held), out, views, strict=True)
                ]
                z = ctx.part(r, j, *leaves[:3], *_with(spec, edits, leaves[3:]))
            asked = [
                (x, o, view) for x, o, view in zip(leaves, out, views, strict=True) if x is not None and o is not None
            ]
            found = torch.autograd.grad(z, [x for x, _, _ in asked], grads[0][:, :, r], allow_unused=True)
            for (_, total, view), grad in zip(asked, found, strict=True):
                if grad is not None:
                    total[view] += grad
        like = zip(out, (q, k, v, *held), strict=True)
        return None, None, None, None, *(None if o is None else o.to(x.dtype) for o, x in like)


def _room(x: Tensor | None, needed: bool) -> Tensor | None:
    """Where the gradient of a tensor is summed, in float32 at least."""
    if x is None or not needed:
        return None
    return torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32), requires_grad=False)
