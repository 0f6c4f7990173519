"""Numbers of single rows that tell where a query looks: mass by distance, moments of the distance, keys that match it.

One class a statistic, each fed block after block, as in `reducers`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench_kernels.blocks import Block
from workbench_kernels.profiles import bins
from workbench_kernels.reducers import zeros
from workbench_kernels.types import AttentionSpec, Matches, Statistics


class Profile:
    """Mass of each row by distance, in bins 0, 1, 2–3, 4–7, …: differences of a running sum at the bins' ends."""

    def __init__(self, q: Tensor, spec: AttentionSpec) -> None:
        self.spec, count = spec, bins(spec, q.shape[2])
        self.value = zeros(q, *q.shape[1:3], count)
        begins = [0, *(1 << e for e in range(count))]
        self.begins = torch.tensor(begins, device=q.device)

    def add(self, block: Block) -> None:
        """The block's rows."""
        b, h, n, m = block.w.shape
        running = torch.nn.functional.pad(block.w.cumsum(-1), (1, 0))
        own = torch.arange(n, device=block.w.device)[:, None] + _own(block, self.spec)
        ends = (own + 1 - self.begins).clamp(0, m)  # keys before it are at least so far away
        held = running.gather(-1, ends.expand(b, h, -1, -1))
        found = (held[..., :-1] - held[..., 1:]).clamp_min(0)
        self.value[:, block.heads, block.start : block.stop] = block.shared(found)

    def finish(self, out: Statistics) -> None:
        """As it is."""
        out.profile = self.value


class Moments:
    """Σ p·d and Σ p·d² of each row; d is how many positions before the query a key stands, 0 for keys ahead of it.

    Far keys go through one thin product: there distances are sums of positive numbers. Near ones are looked at one by
    one, for a product would give 0 as a difference of squares.
    """

    def __init__(self, q: Tensor, spec: AttentionSpec) -> None:
        self.spec, self.value = spec, zeros(q, *q.shape[1:3], 2)

    def add(self, block: Block) -> None:
        """The block's rows."""
        n, m = block.w.shape[-2:]
        own, device = _own(block, self.spec), block.w.device
        near = max(0, min(own - n + 1, m))  # columns before it are at least n positions away from every row
        row = torch.arange(n, device=device)
        d = (own + row[:, None] - torch.arange(near, m, device=device)).clamp_min(0).float()
        part = block.w[..., near:]
        found = torch.stack([(part * d).sum(-1), (part * d.square()).sum(-1)], -1)
        if near:
            found = found + _far(block.w[..., :near], own, row)
        self.value[:, block.heads, block.start : block.stop] = block.shared(found)

    def finish(self, out: Statistics) -> None:
        """As they are."""
        out.moments = self.value


def _far(w: Tensor, own: int, row: Tensor) -> Tensor:
    """Both moments; (D + i)² with D the distance of the first row and i the row's number."""
    d = (own - torch.arange(w.shape[-1], device=w.device)).float()
    none, one, two = torch.matmul(w, torch.stack([torch.ones_like(d), d, d.square()], -1)).unbind(-1)
    i = row.float()
    return torch.stack([one + i * none, two + 2 * i * one + i.square() * none], -1)


class Matched:
    """Mass of each row on the keys whose label is the query's, for each list of labels; small weights may count as 0."""

    def __init__(self, q: Tensor, spec: AttentionSpec, matches: Matches) -> None:
        self.spec, self.matches = spec, matches
        self.value = zeros(q, *q.shape[1:3], matches.keys.shape[1])

    def add(self, block: Block) -> None:
        """The block's rows."""
        wanted = self.matches.queries[:, block.start : block.stop].to(block.w.device)
        keys = self.matches.keys[..., block.keys].to(block.w.device)
        own = torch.arange(wanted.shape[1], device=block.w.device)[:, None] + _own(block, self.spec)
        earlier = torch.arange(block.w.shape[-1], device=block.w.device) <= own
        for i, least in enumerate(self.matches.least):
            same = (wanted[..., None] == keys[:, i, None]) & earlier
            w = block.w.masked_fill(~same[:, None], 0.0)
            if least > 0:
                w = w * (block.shared(w) >= least)
            self.value[:, block.heads, block.start : block.stop, i] = block.shared(w.sum(-1, keepdim=True))[..., 0]

    def finish(self, out: Statistics) -> None:
        """As they are."""
        out.matched = self.value


def _own(block: Block, spec: AttentionSpec) -> int:
    """Column of the first row's own key in the block."""
    return block.start + spec.q_offset - spec.kv_offset - block.keys.start
