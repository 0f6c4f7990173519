"""Work by blocks of queries whose backward pass does each block again: O(N) memory, nothing N×N is kept.

Forward and backward run the same function of one block; what is saved between them are its inputs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from workbench_kernels.types import AttentionSpec, HeadEdits

TABLES = ("class_gain", "bias", "boost")
"""Edits of the pattern that gradients reach, besides the weights of replaced rows and the learned sinks."""

Part = Callable[[slice, slice, Any, Any, Any, AttentionSpec, tuple[HeadEdits, ...]], Sequence[Tensor]]
"""(rows, keys, q of the rows, k and v of the keys, spec, edits) to the results of a block."""
Cuts = Sequence[tuple[slice, slice]]
"""Rows of each block, and the keys that they see."""


@dataclass(frozen=True)
class Whole:
    """A result of all blocks: its shape, and the index at which a block of (rows, keys) adds its own to it."""

    shape: tuple[int, ...]
    place: Callable[[slice, slice], tuple[Any, ...]]


def of_rows(*shape: int, after: int = 0) -> Whole:
    """A result to which every block gives its own rows. after: axes behind that of the rows."""
    return Whole(shape, lambda rows, keys: (..., rows, *[slice(None)] * after))


def of_keys(*shape: int) -> Whole:
    """Sums over the rows, of each key."""
    return Whole(shape, lambda rows, keys: (..., keys))


def of_all(*shape: int) -> Whole:
    """Sums over rows and keys."""
    return Whole(shape, lambda rows, keys: (...,))


def wanted(q: Tensor, k: Tensor, v: Tensor | None, spec: AttentionSpec, edits: HeadEdits | None) -> bool:
    """Whether somebody will ask for gradients of the output."""
    leaves = (q, k, v, *tables(spec, () if edits is None else (edits,)))
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in leaves)


def tables(spec: AttentionSpec, edits: Sequence[HeadEdits]) -> list[Tensor | None]:
    """What is differentiable beside q, k and v."""
    out = [spec.sink_logits]
    for edit in edits:
        out += [None if edit.rows is None else edit.rows.weights, *(getattr(edit, f) for f in TABLES)]
    return out


def _with(
    spec: AttentionSpec, edits: Sequence[HeadEdits], held: Sequence[Tensor | None]
) -> tuple[AttentionSpec, tuple[HeadEdits, ...]]:
    """The spec and the edits with other tensors in the place of `tables`."""
    spec, rest, out = replace(spec, sink_logits=held[0]), iter(held[1:]), []
    for edit in edits:
        weights = next(rest)
        rows = None if edit.rows is None or weights is None else replace(edit.rows, weights=weights)
        changed: dict[str, Any] = {f: next(rest) for f in TABLES}
        out.append(replace(edit, **changed, rows=rows))
    return spec, tuple(out)


def cuts(spec: AttentionSpec, rows: int, n: int, m: int) -> list[tuple[slice, slice]]:
    """Blocks of so many rows."""
    each = [slice(i, min(n, i + rows)) for i in range(0, n, rows)]
    return [(cut, spec.keys(cut.start, cut.stop, m)) for cut in each]


def blockwise(
    part: Part,
    wholes: Sequence[Whole],
    blocks: Cuts,
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"] | None,
    spec: AttentionSpec,
    edits: tuple[HeadEdits, ...],
) -> tuple[Tensor, ...]:
    """What `part` gives of all blocks, put together; differentiable once, in q, k, v and `tables`.

    Results that are no floating-point numbers carry no gradient.
    """
    return _Blockwise.apply(part, wholes, blocks, spec, edits, q, k, v, *tables(spec, edits))  # type: ignore[return-value]


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        part, wholes, blocks, spec, edits, q, k, v, *held = given
        out: list[Tensor] = []
        for r, j in blocks:
            found = part(r, j, q[:, :, r], k[:, :, j], None if v is None else v[:, :, j], spec, edits)
            out = out or [x.new_zeros(whole.shape) for x, whole in zip(found, wholes, strict=True)]
            for total, x, whole in zip(out, found, wholes, strict=True):
                total[whole.place(r, j)] += x
        ctx.work, ctx.given = (part, wholes, blocks), (spec, edits)
        ctx.save_for_backward(q, k, v, *held)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(x for x in out if not x.is_floating_point()))
        return tuple(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        q, k, v, *held = ctx.saved_tensors
        part, wholes, blocks = ctx.work
        spec, edits = ctx.given
        out = [_room(x, needed) for x, needed in zip((q, k, v, *held), ctx.needs_input_grad[5:], strict=True)]
        for r, j in blocks:
            views: list[Any] = [(..., r, slice(None)), (..., j, slice(None)), (..., j, slice(None)), *[...] * len(held)]
            with torch.enable_grad():
                leaves = [
                    None if x is None else x[view].detach().requires_grad_(o is not None)
                    for x, o, view in zip((q, k, v, *held), out, views, strict=True)
                ]
                found = part(r, j, *leaves[:3], *_with(spec, edits, leaves[3:]))
            asked = [
                (x, o, view) for x, o, view in zip(leaves, out, views, strict=True) if x is not None and o is not None
            ]
            pairs = [
                (x, g[whole.place(r, j)])
                for x, g, whole in zip(found, grads, wholes, strict=True)
                if g is not None and x.requires_grad
            ]
            if not pairs:
                continue
            slopes = torch.autograd.grad(
                [x for x, _ in pairs], [x for x, _, _ in asked], [g for _, g in pairs], allow_unused=True
            )
            for (_, total, view), slope in zip(asked, slopes, strict=True):
                if slope is not None:
                    total[view] += slope
        like = zip(out, (q, k, v, *held), strict=True)
        return *[None] * 5, *(None if o is None else o.to(x.dtype) for o, x in like)


def _room(x: Tensor | None, needed: bool) -> Tensor | None:
    """Where the gradient of a tensor is summed, in float32 at least."""
    if x is None or not needed:
        return None
    return torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32), requires_grad=False)
