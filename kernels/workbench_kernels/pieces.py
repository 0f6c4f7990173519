"""What a block of rows gives to each statistic, as plain functions that autograd can follow.

The sweep has quicker ways of its own, which write in place; these serve `differentiable` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench_kernels.gradients import Whole, of_all, of_keys, of_rows
from workbench_kernels.patterns import block
from workbench_kernels.profiles import bins, by_distance
from workbench_kernels.reducers import indicator
from workbench_kernels.types import AttentionSpec, Reductions

Valid = Bool[Tensor, "b n"] | None
"""Queries of the text; None where all are."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The pattern of a block of queries. valid: of the block. top: how many keys of each row are wanted."""

    p: Float[Tensor, "b h q k"]
    lse: Float[Tensor, "b h q"]
    rows: slice
    keys: slice
    valid: Valid = None
    top: int = 0

    @cached_property
    def text(self) -> Float[Tensor, "b h q k"]:
        """The pattern with the rows that are padding at 0."""
        return self.p if self.valid is None else self.p * self.valid[:, None, :, None]

    @cached_property
    def looks(self) -> tuple[Float[Tensor, "b h q n"], Int[Tensor, "b h q n"]]:
        """Top keys; where rows see fewer, the rest is key 0 with weight 0."""
        top = self.p.topk(min(self.top, self.p.shape[-1]), -1)
        room = (0, self.top - top.values.shape[-1])
        return F.pad(top.values, room), F.pad(top.indices + self.keys.start, room)

    @property
    def entropy(self) -> Float[Tensor, "b h q"]:
        """−Σ p log p, whose slope at a weight of 0 is taken for 0."""
        return -(self.p * torch.where(self.p > 0, self.p, 1.0).log()).sum(-1)

    def at(self, offsets: tuple[int, ...], shift: int) -> Float[Tensor, "b h q o"]:
        """What each query pays to the key so many positions before it. shift: of queries against keys."""
        own = torch.arange(self.rows.start, self.rows.stop, device=self.p.device) + shift - self.keys.start
        at, width = own[:, None] - torch.tensor(offsets, device=own.device), self.p.shape[-1]
        found = self.p.gather(-1, at.clamp(0, max(0, width - 1)).expand(*self.p.shape[:2], -1, -1))
        return found * ((at >= 0) & (at < width))


Pieces = dict[str, tuple[Callable[[Rows], Tensor], Whole]]
"""By name: what a block gives, and the whole that it is added to."""


def of_looks(b: int, h: int, n: int, m: int, want: Reductions, device: torch.device) -> Pieces:
    """Top keys, and masses on spans."""
    out: Pieces = {}
    if want.top_k:
        whole = of_rows(b, h, n, min(want.top_k, m), after=1)
        out["top_values"], out["top_indices"] = (lambda r: r.looks[0], whole), (lambda r: r.looks[1], whole)
    if want.spans is not None:
        inside = indicator(want.spans.to(device), m, torch.bool)[:, None]
        whole = of_rows(b, h, n, inside.shape[-1], after=1)
        out["mass"] = (lambda r: torch.matmul(r.p, inside[:, :, r.keys].to(r.p)), whole)
    return out


def of_each_row(b: int, h: int, n: int, spec: AttentionSpec, want: Reductions) -> Pieces:
    """Numbers of single rows."""
    out: Pieces = {}
    if want.lse or want.sink_mass:
        out["lse"] = (lambda r: r.lse, of_rows(b, h, n))
    if want.offsets:
        shift = spec.q_offset - spec.kv_offset
        out["at_offset"] = (lambda r: r.at(want.offsets, shift), of_rows(b, h, n, len(want.offsets), after=1))
    if want.entropy:
        out["entropy"] = (lambda r: r.entropy, of_rows(b, h, n))
    return out


def of_each_head(q: Tensor, k: Tensor, spec: AttentionSpec, want: Reductions) -> Pieces:
    """Sums over the rows of the text; `seeing` counts the rows that see a key, where a mask function says which."""
    (b, h, n, _), m = q.shape, k.shape[2]
    out: Pieces = {}
    if want.received:
        out["received"] = (lambda r: r.text.sum(2), of_keys(b, h, m))
        if spec.allowed is not None:
            out["seeing"] = (lambda r: _seeing(r, spec), of_keys(b, m))
    if want.distance:
        shift, count = spec.q_offset - spec.kv_offset, bins(spec, n)
        out["distance"] = (
            lambda r: by_distance(r.text, r.rows.start + shift - r.keys.start, count),
            of_all(b, h, count),
        )
    if want.thumbnail:
        rows, columns = cells(q, k, spec, want.thumbnail)
        out["thumbnail"] = (
            lambda r: rows[r.rows].to(r.p).mT @ r.text @ columns[r.keys].to(r.p),
            of_all(b, h, want.thumbnail, want.thumbnail),
        )
    return out


def _seeing(r: Rows, spec: AttentionSpec) -> Int[Tensor, "b k"]:
    seen = spec.visible(block(r.rows.start, r.rows.stop, r.p.device), r.keys, len(r.p))[:, 0]
    seen = seen if r.valid is None else seen & r.valid[..., None]
    return seen.sum(1).expand(len(r.p), -1)


def cells(
    q: Tensor, k: Tensor, spec: AttentionSpec, side: int
) -> tuple[Bool[Tensor, "q cells"], Bool[Tensor, "k cells"]]:
    """The cell of a thumbnail that each query and each key belongs to."""
    n, m = q.shape[2], k.shape[2]
    size = -(-max(spec.q_offset + n, spec.kv_offset + m) // side)
    every = torch.arange(side, device=q.device)
    rows = (torch.arange(n, device=q.device) + spec.q_offset) // size
    keys = (torch.arange(m, device=q.device) + spec.kv_offset) // size
    return rows[:, None] == every, keys[:, None] == every
