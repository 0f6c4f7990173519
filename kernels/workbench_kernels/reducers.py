"""What a block of whole rows is reduced to; one class a statistic, each fed block after block.

Blocks of different heads may come from several threads; each head's numbers are touched by the blocks of that head only,
and what is no head's by the blocks of head 0.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench_kernels.blocks import Block, valid_queries
from workbench_kernels.types import AttentionSpec, Reductions, Statistics


class Reducer(Protocol):
    """A statistic in the making."""

    def add(self, block: Block) -> None:
        """Take one block into account."""
        ...

    def finish(self, out: Statistics) -> None:
        """Write the result."""
        ...


class LogSumExp:
    """Log-sum-exp of every query's scores; with a learned sink, also the share that the sink takes."""

    def __init__(self, q: Tensor, spec: AttentionSpec, want: Reductions) -> None:
        self.value, self.sinks, self.want = zeros(q, q.shape[1], q.shape[2]), spec.sink_logits, want

    def add(self, block: Block) -> None:
        """The block's own."""
        assert block.lse is not None
        self.value[:, block.heads, block.start : block.stop] = block.lse

    def finish(self, out: Statistics) -> None:
        """Both."""
        out.lse = self.value if self.want.lse else None
        if self.want.sink_mass:
            sinks = self.value.new_tensor(float("nan")) if self.sinks is None else self.sinks.float()[None, :, None]
            out.sink_mass = (sinks - self.value).exp()


class Received:
    """Mean attention that each key gets from the valid queries that see it."""

    def __init__(self, q: Tensor, k: Tensor, spec: AttentionSpec) -> None:
        self.spec, self.sum = spec, zeros(q, q.shape[1], k.shape[2])
        self.counts = spec.allowed is not None  # the queries that see a key are looked for
        self.count = zeros(q, k.shape[2]) if self.counts else seeing(spec, q.shape[2], k.shape[2], q.device)

    def add(self, block: Block) -> None:
        """Sums over the block's queries."""
        self.sum[:, block.heads, block.keys] += block.columns
        if self.counts and block.heads.start == 0:  # who sees whom does not depend on the head
            seen = block.seen
            if seen is None:
                queries = torch.arange(block.start, block.stop, device=block.w.device)[None]
                seen = self.spec.visible(queries, block.keys, len(block.w))
            seen = seen if block.valid is None else seen & block.valid[:, None, :, None]
            self.count[:, block.keys] += seen[:, 0].sum(1)

    def finish(self, out: Statistics) -> None:
        """The mean; keys that nobody sees have none, and get 0."""
        out.received = self.sum / self.count.clamp_min(1)[:, None]


def seeing(spec: AttentionSpec, n: int, keys: int, device: torch.device) -> Float[Tensor, "#b k"]:
    """How many valid queries see each key: differences of a running count, as consecutive queries see it."""
    valid = valid_queries(spec, n, keys, device)
    valid = torch.ones(1, n, dtype=torch.bool, device=device) if valid is None else valid
    running = torch.nn.functional.pad(valid.long().cumsum(1), (1, 0))
    first = torch.arange(keys, device=device) + spec.kv_offset - spec.q_offset
    last = torch.full_like(first, n) if spec.sliding is None else first + spec.sliding
    count = (running[:, last.clamp(0, n)] - running[:, first.clamp(0, n)]).float()
    return count if spec.padding is None else count * spec.padding.to(device)


class AtOffset:
    """Attention that each query pays to the key so many positions before it."""

    def __init__(self, q: Tensor, spec: AttentionSpec, want: Reductions) -> None:
        self.spec, self.offsets = spec, want.offsets
        self.value = zeros(q, q.shape[1], q.shape[2], len(want.offsets))

    def add(self, block: Block) -> None:
        """One weight a query and offset."""
        queries = torch.arange(block.start, block.stop, device=block.w.device)
        for i, offset in enumerate(self.offsets):
            index = queries + self.spec.q_offset - self.spec.kv_offset - offset - block.keys.start
            inside = (index >= 0) & (index < block.w.shape[-1])
            at = index.clamp(0, max(0, block.w.shape[-1] - 1))[None, None, :, None].expand(*block.w.shape[:2], -1, 1)
            found = block.shared(block.w.gather(-1, at))[..., 0]
            self.value[:, block.heads, block.start : block.stop, i] = found * inside

    def finish(self, out: Statistics) -> None:
        """As it is."""
        out.at_offset = self.value


class Entropy:
    """Entropy of each row in nats."""

    def __init__(self, q: Tensor) -> None:
        self.value = zeros(q, q.shape[1], q.shape[2])

    def add(self, block: Block) -> None:
        """The block's own."""
        self.value[:, block.heads, block.start : block.stop] = block.entropy

    def finish(self, out: Statistics) -> None:
        """As it is."""
        out.entropy = self.value


class TopKeys:
    """Top keys of every query."""

    def __init__(self, q: Tensor, k: Tensor, want: Reductions) -> None:
        self.k = min(want.top_k, k.shape[2])
        self.values = zeros(q, *q.shape[1:3], self.k)
        self.indices = torch.zeros(*q.shape[:3], self.k, dtype=torch.long, device=q.device)

    def add(self, block: Block) -> None:
        """Of the block's queries; where they see fewer keys, the rest is key 0 with weight 0."""
        rows = slice(block.start, block.stop)
        top = block.w.topk(min(self.k, block.w.shape[-1]), -1)
        kept = slice(top.values.shape[-1])
        self.values[:, block.heads, rows, kept] = block.shared(top.values)
        self.indices[:, block.heads, rows, kept] = top.indices + block.keys.start

    def finish(self, out: Statistics) -> None:
        """As they are."""
        out.top_values, out.top_indices = self.values, self.indices


def indicator(spans: Int[Tensor, "b s 2"], keys: int, dtype: torch.dtype) -> Float[Tensor, "b k s"]:
    """1 where a key lies in a span."""
    j = torch.arange(keys, device=spans.device)[None, :, None]
    return ((j >= spans[:, None, :, 0]) & (j < spans[:, None, :, 1])).to(dtype)


def zeros(q: Tensor, *shape: int) -> Tensor:
    """Room for a statistic of each batch row."""
    return torch.zeros(q.shape[0], *shape, dtype=torch.float32, device=q.device)
