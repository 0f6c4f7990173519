"""Pictures of whole heads from blocks of rows: mass by distance, and the pattern in a few cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from workbench_kernels.blocks import Block
from workbench_kernels.reducers import zeros
from workbench_kernels.types import AttentionSpec, Statistics


class Distance:
    """Mean mass of a head by distance, in bins 0, 1, 2–3, 4–7, …, over the valid queries.

    Far from its queries a block's column lies in one bin, so the sum of the column is enough; where a bin begins, and near
    the queries, weights are looked at one by one.
    """

    def __init__(self, q: Tensor, spec: AttentionSpec) -> None:
        self.spec, self.queries = spec, 0.0
        self.value = zeros(q, q.shape[1], bins(spec, q.shape[2]))

    def add(self, block: Block) -> None:
        """Sums over the block's queries."""
        n, m = block.w.shape[-2:]
        if block.heads.start == 0:
            rows = float(n) if block.valid is None else block.valid.sum(-1)[:, None, None].float()
            self.queries = self.queries + rows
        own = block.start + self.spec.q_offset - self.spec.kv_offset - block.keys.start  # column of row 0's own key
        reach = 1 << (n - 1).bit_length()  # columns before own − reach + 1 are at least so far from every row
        near = max(0, min(own - reach + 1, m))
        into = self.value[:, block.heads]
        into += by_distance(block.w[..., near:] * block.of_text, own - near, into.shape[-1])
        if near:
            self._far(block, into, own, reach, near)

    def _far(self, block: Block, into: Tensor, own: int, reach: int, near: int) -> None:
        n, device = block.w.shape[-2], block.w.device
        column = torch.arange(near, device=device)
        first, last = place(own - column), place(own + n - 1 - column)  # bins of the first and of the last row
        bins = torch.arange(into.shape[-1], device=device)
        whole = (first == last)[:, None] & (first[:, None] == bins)
        into += torch.matmul(block.columns[..., :near], whole.float())
        begins = [1 << e for e in range(reach.bit_length(), (own + n - 1).bit_length())]  # bins that begin in a column
        if n < 2 or not begins:
            return
        edges = torch.tensor(begins, device=device)
        at = own + 1 - edges[:, None] + torch.arange(n - 1, device=device)  # [bins, n - 1]
        some = block.w.index_select(-1, at.clamp_min(0).flatten()).unflatten(-1, at.shape)
        some = some * (block.of_text[..., None] * (at >= 0))
        row, step = torch.arange(n, device=device)[:, None, None], torch.arange(n - 1, device=device)
        further = (step < row).to(some)  # of the bin that begins
        into.index_add_(-1, place(edges), (some * further).sum((2, 4)))
        into.index_add_(-1, place(edges) - 1, (some * (1 - further)).sum((2, 4)))

    def finish(self, out: Statistics) -> None:
        """The mean."""
        out.distance = self.value / torch.as_tensor(self.queries, device=self.value.device).clamp_min(1)


def bins(spec: AttentionSpec, queries: int) -> int:
    """How many bins of distance there are."""
    return (max(1, spec.q_offset + queries - spec.kv_offset) - 1).bit_length() + 1


def by_distance(w: Float[Tensor, "b h q k"], own: int, bins: int) -> Float[Tensor, "b h bins"]:
    """Mass by distance of weights; `own` is the column of the first row's own key."""
    b, h, n, m = w.shape
    # rows of length m + n read as rows of length m + n + 1 move each row one further to the left: columns then are
    # distances, and their sum needs no index
    flat = F.pad(F.pad(w, (0, n)).flatten(-2), (0, n))
    by_shift = flat.view(b, h, n, m + n + 1).sum(2)
    column = torch.arange(m + n + 1, device=w.device)
    distance = own - torch.where(column < m, column, column - (m + n + 1))
    inside = (distance[:, None] >= 0) & (place(distance)[:, None] == torch.arange(bins, device=w.device))
    return torch.matmul(by_shift, inside.to(w))


def place(distance: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The bin of a distance: 0, 1, 2–3, 4–7, …"""
    return torch.frexp(distance.double()).exponent.long() * (distance > 0)


class Thumbnail:
    """The pattern in n × n cells: mean over valid queries of the mass on the cell's keys, and the largest weight."""

    def __init__(self, q: Tensor, k: Tensor, spec: AttentionSpec, n: int) -> None:
        self.spec, (b, h) = spec, q.shape[:2]
        total = max(spec.q_offset + q.shape[2], spec.kv_offset + k.shape[2])
        self.side = -(-total // n)  # positions in a cell, rounded up
        self.mean, self.most = zeros(q, h, n, n), zeros(q, h, n, n)
        self.rows = torch.zeros(b, n, device=q.device)

    def add(self, block: Block) -> None:
        """Sums and maxima over the block's queries."""
        left = block.keys.start + self.spec.kv_offset
        mass, most = (x * block.of_text for x in _cells(block.w, -left % self.side, self.side))
        columns = slice(left // self.side, left // self.side + mass.shape[-1])
        start = block.start + self.spec.q_offset
        while start < block.stop + self.spec.q_offset:
            row = start // self.side
            stop = min((row + 1) * self.side, block.stop + self.spec.q_offset)
            here = slice(start - block.start - self.spec.q_offset, stop - block.start - self.spec.q_offset)
            self.mean[:, block.heads, row, columns] += mass[:, :, here].sum(2)
            kept = self.most[:, block.heads, row, columns]
            self.most[:, block.heads, row, columns] = torch.maximum(kept, most[:, :, here].amax(2))
            if block.heads.start == 0:
                self.rows[:, row] += stop - start if block.valid is None else block.valid[:, here].sum(-1)
            start = stop

    def finish(self, out: Statistics) -> None:
        """Means and maxima."""
        mean = self.mean / self.rows.clamp_min(1)[:, None, :, None]
        out.thumbnail = torch.stack([mean, self.most], 2)


def _cells(w: Float[Tensor, "b h q k"], lead: int, side: int) -> tuple[Tensor, Tensor]:
    """Sum and largest of each cell's columns; the first cell holds `lead` columns, none where that is 0."""
    end = lead + (max(0, w.shape[-1] - lead) // side) * side
    parts = [w[..., :lead, None].mT, w[..., lead:end].unflatten(-1, (-1, side)), w[..., end:, None].mT]
    parts = [x for x in parts if x.numel()]
    return torch.cat([x.sum(-1) for x in parts], -1), torch.cat([x.amax(-1) for x in parts], -1)
