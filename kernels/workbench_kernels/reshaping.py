"""The output of heads whose pattern is edited, each by the cheapest way that is exact; the other heads keep theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench_kernels import gradients, split, windows
from workbench_kernels.cutting import select_heads, select_pairs, select_rows, touched
from workbench_kernels.sweep import ROWS, SCRATCH
from workbench_kernels.types import AttentionSpec, HeadEdits

DENSE = 4
"""The split way is for classes that hold at most one key in so many."""

CLASS_EDITS = ("key_class", "class_gain", "least_mass", "freed", "bias", "boost")

Way = Callable[[Tensor, Tensor, Tensor, AttentionSpec, HeadEdits], Tensor]


def small(q: Float[Tensor, "b h n d"], k: Float[Tensor, "b g m d"]) -> bool:
    """Whether one small block of all heads is cheaper than many heads in turn: decoding."""
    return q.shape[0] * q.shape[1] * min(q.shape[2], ROWS) * k.shape[2] <= SCRATCH


def reshaped(
    z: Float[Tensor, "b h n d"],
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b g m d"],
    v: Float[Tensor, "b g m d"],
    spec: AttentionSpec,
    edits: HeadEdits,
    flags: Bool[Tensor, "b h"],
    by_blocks: Way,
) -> Float[Tensor, "b h n d"]:
    """z with the heads of `flags` computed anew. by_blocks: the way that is always open, pattern times values."""
    if small(q, k):
        new = by_blocks(q, k, v, spec, edits)
        return torch.where(flags[:, :, None, None], new.to(z.dtype), z)
    z = z.clone() if torch.is_grad_enabled() else z
    for piece in pieces(z, q, k, v, spec, edits, flags, by_blocks, 1):
        piece()
    return z


def pieces(
    z: Tensor, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits, flags: Bool[Tensor, "b h"],
    by_blocks: Way, cores: int,
) -> list[Callable[[], None]]:  # fmt: skip
    """What writes the heads of `flags` into z: pieces that may run at the same time, as even as so many cores want them."""
    work: list[Callable[[], None]] = []
    for chosen, way in _fast(q, k, v, spec, edits, flags):
        flags = flags & ~chosen
        rows, heads = chosen.nonzero(as_tuple=True)
        size = max(1, -(-len(rows) // cores))
        work += [
            partial(_write, z, q, k, v, spec, edits, r, h, way)
            for r, h in zip(rows.split(size), heads.split(size), strict=True)
            if len(r)
        ]
    for head in flags.any(0).nonzero().flatten().tolist():
        work.append(partial(_write_head, z, q, k, v, spec, edits, flags[:, head].nonzero().flatten(), head, by_blocks))
    return work


def _write_head(
    z: Tensor, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits, rows: Tensor, head: int, way: Way
) -> None:
    """One head in some batch rows."""
    kv, one = head // (q.shape[1] // k.shape[1]), slice(head, head + 1)
    part = (q[rows, one], k[rows, kv : kv + 1], v[rows, kv : kv + 1])
    new = way(*part, _part(spec, rows, one), select_rows(select_heads(edits, one), rows))
    z[rows, head] = new[:, 0].to(z.dtype)


def _part(spec: AttentionSpec, rows: Tensor, heads: slice) -> AttentionSpec:
    """The spec of some batch rows and heads."""
    inner = spec.allowed

    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return inner(rows[b], h, i, j) if inner is not None else j <= i

    return replace(
        spec,
        allowed=None if inner is None else allowed,
        padding=None if spec.padding is None else spec.padding[rows],
        first=None if spec.first is None else spec.first[rows],
        sink_logits=None if spec.sink_logits is None else spec.sink_logits[heads],
    )


def _fast(
    q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits, flags: Tensor
) -> list[tuple[Bool[Tensor, "b h"], Way]]:
    """The heads that have class edits only, or a window only, by the flash way that they go."""
    out: list[tuple[Tensor, Way]] = []
    if gradients.wanted(q, k, v, spec, edits):
        return out
    (b, h), m = q.shape[:2], k.shape[2]
    if edits.window is not None and windows.suits(spec):
        out.append((flags & ~_otherwise(edits, b, "window"), windows.by_window))
    if edits.key_class is None or not split.suits(q, k, spec):
        return out
    plain = flags & ~_otherwise(edits, b, *CLASS_EDITS)
    inside = (edits.key_class[..., :m] > 0).sum(-1).expand(b, h)
    bias = split.biased(edits, b, h)
    few = plain & ~bias & (inside * DENSE <= m)
    two = plain & ~bias & ~few & split.single(edits, b, h)
    return [*out, (plain & bias, split.by_bias), (few, split.by_split), (two, split.by_two)]


def _otherwise(edits: HeadEdits, batch: int, *fields: str) -> Bool[Tensor, "#b #h"]:
    """Heads that an edit changes which is none of these."""
    absent: dict[str, Any] = dict.fromkeys(fields)
    rest = replace(edits, **absent)
    if not rest.reshapes_pattern:
        return torch.zeros(1, 1, dtype=torch.bool)
    return touched(rest, batch)


def _write(
    z: Tensor, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits, rows: Tensor, heads: Tensor,
    way: Way,
) -> None:  # fmt: skip
    """Some (batch row, head) pairs."""
    kv, padding = heads // (q.shape[1] // k.shape[1]), spec.padding
    first = None if spec.first is None else spec.first[rows]
    part = replace(spec, padding=None if padding is None else padding[rows], first=first)
    cut = select_pairs(edits, rows, heads)
    if cut.key_class is not None:
        cut = replace(cut, key_class=cut.key_class[..., : k.shape[2]])
    new = way(_pairs(q, rows, heads), _pairs(k, rows, kv), _pairs(v, rows, kv), part, cut)[:, 0].to(z.dtype)
    if edits.queries is not None:
        held = edits.queries[rows if len(edits.queries) > 1 else torch.zeros_like(rows)]
        new = torch.where(held[:, :, None], new, z[rows, heads])
    z[rows, heads] = new


def _pairs(x: Float[Tensor, "b g n d"], rows: Tensor, heads: Tensor) -> Float[Tensor, "p 1 n d"]:
    """(batch row, head) pairs as a batch of one head each; slices copy twice as fast as an index does."""
    return torch.stack([x[row, head] for row, head in zip(rows.tolist(), heads.tolist(), strict=True)])[:, None]
