"""The cut cache: what every head keeps, packed without holes, heads of like length side by side.

One pair is one cache of one prompt. Attention costs what pairs hold: nobody's keys are padded by more than a fifth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.policies.scheme import Kept
from workbench.simulation.reading_prompts import Prompts

SLACK = 0.8
"""Pairs share a bucket down to this part of its longest."""


@dataclass(frozen=True, eq=False)
class Bucket:
    """Pairs of like length. at: position of each key, -1 where none is, -2 for a summary. stays: whether it stays
    whatever comes. bias: added to its score, None where no key stands for several.
    """

    rows: Int[Tensor, " p"]
    caches: Int[Tensor, " p"]
    keys: Float[Tensor, "p m d"]
    values: Float[Tensor, "p m d"]
    at: Int[Tensor, "p m"]
    stays: Bool[Tensor, "p m"]
    recent: Int[Tensor, " p"]
    grows: Bool[Tensor, " p"]
    bias: Float[Tensor, "p m"] | None = None

    def seen(self, steps: Int[Tensor, "p t"]) -> Bool[Tensor, "p t m"]:
        """Which keys of the prompt are there at each step; those from the first step on are decoded again."""
        near = (self.at >= 0)[:, None] & (steps[:, :, None] - self.at[:, None] < self.recent[:, None, None])
        return (self.stays[:, None] | near) & (self.at[:, None] < steps[:, :1, None])

    def own(self, steps: int) -> Bool[Tensor, "p t t"]:
        """Which decoded tokens are there at each step."""
        at = torch.arange(steps, device=self.at.device)
        back = at[:, None] - at
        return (back >= 0) & (self.grows[:, None, None] | (back < self.recent[:, None, None]))


@dataclass(frozen=True, eq=False)
class _Pair:
    row: int
    cache: int
    index: Int[Tensor, " m"]
    kept: Kept
    summary: int


def compact(prompts: Prompts, layer: int, kept: Sequence[Kept]) -> list[Bucket]:
    """One layer's cache of all prompts, longest pairs first."""
    pairs = []
    for row, own in enumerate(kept):
        held = own.held()
        extra = 0 if own.summary is None else own.summary.weight.shape[1]
        pairs += [_Pair(row, c, held[c].nonzero()[:, 0], own, extra) for c in range(own.caches)]
    pairs.sort(key=lambda p: -len(p.index))
    buckets: list[list[_Pair]] = []
    for pair in pairs:
        if not buckets or len(pair.index) < SLACK * len(buckets[-1][0].index):
            buckets.append([])
        buckets[-1].append(pair)
    return [_bucket(prompts, layer, group) for group in buckets]


def _bucket(prompts: Prompts, layer: int, pairs: list[_Pair]) -> Bucket:
    example, extra = prompts.keys[layer], max(p.summary for p in pairs)
    longest, g = len(pairs[0].index), example.shape[1]
    p, m, device = len(pairs), longest + extra, example.device
    keys, values = (example.new_zeros(p, m, x[layer].shape[-1]) for x in (prompts.keys, prompts.values))
    at = torch.full((p, m), -1, dtype=torch.long, device=device)
    stays = torch.zeros((p, m), dtype=torch.bool, device=device)
    bias = torch.zeros((p, m), device=device) if extra else None
    for i, pair in enumerate(pairs):
        n, own, c = len(pair.index), pair.kept, pair.cache
        head = c * g // own.caches
        keys[i, :n] = (prompts.keys[layer][pair.row, head] if own.keys is None else own.keys[c])[pair.index]
        values[i, :n] = (prompts.values[layer][pair.row, head] if own.values is None else own.values[c])[pair.index]
        at[i, :n], stays[i, :n] = pair.index, own.entries[c][pair.index]
        if bias is not None and own.summary is not None:
            e = slice(longest, longest + pair.summary)
            keys[i, e], values[i, e] = own.summary.keys[c], own.summary.values[c]
            there = own.summary.weight[c] > 0
            stays[i, e], at[i, e] = there, torch.where(there, -2, -1)
            bias[i, e] = own.summary.weight[c].clamp_min(1).log()
    rows, caches = (torch.tensor([getattr(x, name) for x in pairs], device=device) for name in ("row", "cache"))
    recent, grows = (torch.stack([getattr(x.kept, name)[x.cache] for x in pairs]) for name in ("recent", "grows"))
    return Bucket(rows, caches, keys, values, at, stays, recent, grows, bias)
