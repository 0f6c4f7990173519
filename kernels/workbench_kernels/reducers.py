"""What a block of whole rows is reduced to; one class a statistic, each fed block after block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench_kernels.types import AttentionSpec, Reductions, Statistics


@dataclass(frozen=True, eq=False)
class Block:
    """Some queries of the heads of one kv head: their weights over a slice of the keys.

    w: not normalised where total is given (the pattern is w / total). valid: None where all queries are of the text.
    """

    heads: slice
    start: int
    stop: int
    keys: slice
    w: Float[Tensor, "b h q k"]
    total: Float[Tensor, "b h q"] | None
    lse: Float[Tensor, "b h q"]
    valid: Bool[Tensor, "b q"] | None
    q: Float[Tensor, "b h q d"]
    k: Float[Tensor, "b 1 k d"]

    def times(self, x: Float[Tensor, "b g k e"]) -> Float[Tensor, "b h q e"]:
        """Pattern times a matrix."""
        b, h, n, m = self.w.shape
        out = torch.matmul(self.w.reshape(b, 1, h * n, m), x).reshape(b, h, n, x.shape[-1])
        return out if self.total is None else out * self.scale[..., None]

    @cached_property
    def scale(self) -> Float[Tensor, "b h q"]:
        """What normalises a row."""
        return torch.ones_like(self.lse) if self.total is None else 1 / self.total

    @cached_property
    def of_text(self) -> Float[Tensor, "b h q"]:
        """The same, and zero in queries that are padding."""
        return self.scale if self.valid is None else self.scale * self.valid[:, None]

    @cached_property
    def p(self) -> Float[Tensor, "b h q k"]:
        """The pattern itself; costs a pass."""
        return self.w if self.total is None else self.w * self.scale[..., None]


class Reducer(Protocol):
    """A statistic in the making."""

    def add(self, block: Block) -> None:
        """Take one block into account."""
        ...

    def finish(self, out: Statistics) -> None:
        """Write the result."""
        ...


class _LogSumExp:
    """Log-sum-exp of every query's scores; with a learned sink, also the share that the sink takes."""

    def __init__(self, q: Tensor, spec: AttentionSpec, want: Reductions) -> None:
        self.value, self.sinks, self.want = _zeros(q, q.shape[1], q.shape[2]), spec.sink_logits, want

    def add(self, block: Block) -> None:
        self.value[:, block.heads, block.start : block.stop] = block.lse

    def finish(self, out: Statistics) -> None:
        out.lse = self.value if self.want.lse else None
        if self.want.sink_mass:
            assert self.sinks is not None
            out.sink_mass = (self.sinks.float()[None, :, None] - self.value).exp()


class _Received:
    """Mean attention that each key gets from the valid queries that see it."""

    def __init__(self, q: Tensor, k: Tensor, spec: AttentionSpec) -> None:
        self.spec, self.sum = spec, _zeros(q, q.shape[1], k.shape[2])
        self.count = _zeros(q, 1, k.shape[2])

    def add(self, block: Block) -> None:
        self.sum[:, block.heads, block.keys] += torch.matmul(block.of_text[..., None, :], block.w)[..., 0, :]
        if block.heads.start == 0:  # who sees whom does not depend on the head
            queries = torch.arange(block.start, block.stop, device=block.w.device)[None]
            seen = self.spec.visible(queries, block.keys, len(block.w))
            seen = seen if block.valid is None else seen & block.valid[:, None, :, None]
            self.count[:, :, block.keys] += seen.sum(2)

    def finish(self, out: Statistics) -> None:
        out.received = self.sum / self.count.clamp_min(1)


class _AtOffset:
    """Attention that each query pays to the key so many positions before it."""

    def __init__(self, q: Tensor, spec: AttentionSpec, want: Reductions) -> None:
        self.spec, self.offsets = spec, want.offsets
        self.value = _zeros(q, q.shape[1], q.shape[2], len(want.offsets))

    def add(self, block: Block) -> None:
        queries = torch.arange(block.start, block.stop, device=block.w.device)
        for i, offset in enumerate(self.offsets):
            index = queries + self.spec.q_offset - self.spec.kv_offset - offset - block.keys.start
            inside = (index >= 0) & (index < block.w.shape[-1])
            at = index.clamp(0, max(0, block.w.shape[-1] - 1))[None, None, :, None].expand(*block.w.shape[:2], -1, 1)
            found = block.w.gather(-1, at)[..., 0] * block.scale
            self.value[:, block.heads, block.start : block.stop, i] = found * inside

    def finish(self, out: Statistics) -> None:
        out.at_offset = self.value


class _Entropy:
    """Entropy of each row in nats, from the identity lse − mean score where that holds: one product more, no pass."""

    def __init__(self, q: Tensor, spec: AttentionSpec) -> None:
        self.spec, self.value = spec, _zeros(q, q.shape[1], q.shape[2])

    def add(self, block: Block) -> None:
        if block.total is None or self.spec.softcap is not None or self.spec.sink_logits is not None:
            h = -torch.xlogy(block.p, block.p).sum(-1)
        else:
            mean = (block.times(block.k) * block.q).sum(-1) * self.spec.scale
            h = torch.where(block.lse.isfinite(), block.lse - mean, 0.0).clamp_min(0)
        self.value[:, block.heads, block.start : block.stop] = h

    def finish(self, out: Statistics) -> None:
        out.entropy = self.value


class _Distance:
    """Mean mass of a head by distance, in bins 0, 1, 2–3, 4–7, …, over the valid queries."""

    def __init__(self, q: Tensor, k: Tensor, spec: AttentionSpec) -> None:
        self.spec, self.queries = spec, 0.0
        self.longest = max(1, spec.q_offset + q.shape[2] - spec.kv_offset)
        self.value = _zeros(q, q.shape[1], self.longest)

    def add(self, block: Block) -> None:
        w = block.w * block.of_text[..., None]
        b, h, n, m = w.shape
        # rows of length m + n read as rows of length m + n + 1 move each row one further to the left: columns then are
        # distances, and their sum needs no index
        flat = F.pad(F.pad(w, (0, n)).flatten(-2), (0, n))
        by_shift = flat.view(b, h, n, m + n + 1).sum(2)
        first = block.start + self.spec.q_offset - self.spec.kv_offset - block.keys.start  # distance of row 0, column 0
        column = torch.arange(m + n + 1, device=w.device)
        column = torch.where(column < m, column, column - (m + n + 1))
        distance = first - column
        inside = (distance >= 0) & (distance < self.longest)
        self.value[:, block.heads].index_add_(2, distance[inside], by_shift[..., inside])
        if block.heads.start == 0:
            self.queries = self.queries + (
                float(n) if block.valid is None else block.valid.sum(-1)[:, None, None].float()
            )

    def finish(self, out: Statistics) -> None:
        out.distance = binned(self.value) / torch.as_tensor(self.queries, device=self.value.device).clamp_min(1)


def binned(by_distance: Float[Tensor, "b h n"]) -> Float[Tensor, "b h bins"]:
    """Sums over the bins 0, 1, 2–3, 4–7, …"""
    d = torch.arange(by_distance.shape[-1], device=by_distance.device)
    place = torch.where(d == 0, 0, d.clamp_min(1).log2().floor().long() + 1)
    out = by_distance.new_zeros(*by_distance.shape[:-1], int(place[-1]) + 1)
    return out.index_add_(-1, place, by_distance)


class _Thumbnail:
    """The pattern in n × n blocks: mean over valid queries of the mass on the block's keys, and the largest weight."""

    def __init__(self, q: Tensor, k: Tensor, spec: AttentionSpec, n: int) -> None:
        self.spec, b, h = spec, q.shape[0], q.shape[1]
        total = max(spec.q_offset + q.shape[2], spec.kv_offset + k.shape[2])
        self.side = -(-total // n)  # positions in a block, rounded up
        self.mean, self.most = _zeros(q, h, n, n), _zeros(q, h, n, n)
        self.rows = torch.zeros(b, n, device=q.device)

    def add(self, block: Block) -> None:
        left = (block.keys.start + self.spec.kv_offset) % self.side
        first = (block.keys.start + self.spec.kv_offset) // self.side
        right = -(left + block.w.shape[-1]) % self.side
        pooled = F.pad(block.w, (left, right)).unflatten(-1, (-1, self.side))
        mass, most = pooled.sum(-1) * block.of_text[..., None], pooled.amax(-1) * block.of_text[..., None]
        place = torch.arange(block.start, block.stop, device=mass.device) + self.spec.q_offset
        place, columns = place // self.side, slice(first, first + mass.shape[-1])
        self.mean[:, block.heads, :, columns] = self.mean[:, block.heads, :, columns].index_add(2, place, mass)
        for row in range(int(place[0]), int(place[-1]) + 1):
            here = most[:, :, place == row].amax(2)
            kept = self.most[:, block.heads, row, columns]
            self.most[:, block.heads, row, columns] = torch.maximum(kept, here)
        if block.heads.start == 0:
            ones = torch.ones_like(mass[:, 0, :, 0]) if block.valid is None else block.valid.float()
            self.rows.index_add_(1, place, ones)

    def finish(self, out: Statistics) -> None:
        mean = self.mean / self.rows.clamp_min(1)[:, None, :, None]
        out.thumbnail = torch.stack([mean, self.most], 2)


class _AllRows:
    """Top keys and span masses of every query."""

    def __init__(self, q: Tensor, k: Tensor, want: Reductions) -> None:
        b, h, n = q.shape[:3]
        self.k, self.spans = min(want.top_k, k.shape[2]), want.spans
        self.values = _zeros(q, h, n, self.k)
        self.indices = torch.zeros(b, h, n, self.k, dtype=torch.long, device=q.device)
        if want.spans is not None:
            self.inside = indicator(want.spans.to(q.device), k.shape[2], torch.float32)
            self.mass = _zeros(q, h, n, want.spans.shape[1])

    def add(self, block: Block) -> None:
        rows = slice(block.start, block.stop)
        if self.k:
            top = block.w.topk(min(self.k, block.w.shape[-1]), -1)
            kept = slice(top.values.shape[-1])
            self.values[:, block.heads, rows, kept] = top.values * block.scale[..., None]
            self.indices[:, block.heads, rows, kept] = top.indices + block.keys.start
        if self.spans is not None:
            self.mass[:, block.heads, rows] = block.times(self.inside[:, None, block.keys])

    def finish(self, out: Statistics) -> None:
        if self.k:
            out.top_values, out.top_indices = self.values, self.indices
        if self.spans is not None:
            out.mass = self.mass


def indicator(spans: Int[Tensor, "b s 2"], keys: int, dtype: torch.dtype) -> Float[Tensor, "b k s"]:
    """1 where a key lies in a span."""
    j = torch.arange(keys, device=spans.device)[None, :, None]
    return ((j >= spans[:, None, :, 0]) & (j < spans[:, None, :, 1])).to(dtype)


def reducers(q: Tensor, k: Tensor, spec: AttentionSpec, want: Reductions) -> list[Reducer]:
    """Those that a request needs."""
    out: list[Reducer] = []
    if want.lse or want.sink_mass:
        out.append(_LogSumExp(q, spec, want))
    if want.received:
        out.append(_Received(q, k, spec))
    if want.offsets:
        out.append(_AtOffset(q, spec, want))
    if want.entropy:
        out.append(_Entropy(q, spec))
    if want.distance:
        out.append(_Distance(q, k, spec))
    if want.thumbnail:
        out.append(_Thumbnail(q, k, spec, want.thumbnail))
    if want.rows is None and (want.top_k or want.spans is not None):
        out.append(_AllRows(q, k, want))
    return out


def _zeros(q: Tensor, *shape: int) -> Tensor:
    return torch.zeros(q.shape[0], *shape, dtype=torch.float32, device=q.device)
