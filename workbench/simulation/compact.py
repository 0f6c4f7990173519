"""The cut cache: what every head keeps, packed without holes, heads of like length side by side.

One pair is one cache of one prompt. Attention costs what pairs hold: nobody's keys are padded by more than a fifth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

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
    device, g = prompts.keys[layer].device, prompts.keys[layer].shape[1]
    rows, caches = (torch.tensor([getattr(x, name) for x in pairs], device=device) for name in ("row", "cache"))
    recent, grows = (torch.stack([getattr(x.kept, name)[x.cache] for x in pairs]) for name in ("recent", "grows"))
    at = pad_sequence([x.index for x in pairs], True, -1)
    stays = pad_sequence([x.kept.entries[x.cache][x.index] for x in pairs], True, False)
    heads = caches * g // pairs[0].kept.caches

    def held(name: str) -> Tensor:
        if getattr(pairs[0].kept, name) is None:  # what fills up is never seen
            return getattr(prompts, name)[layer][rows[:, None], heads[:, None], at.clamp_min(0)]
        return pad_sequence([getattr(x.kept, name)[x.cache][x.index] for x in pairs], True)

    bucket = Bucket(rows, caches, held("keys"), held("values"), at, stays, recent, grows)
    extra = max(x.summary for x in pairs)
    return _summed(bucket, pairs, extra) if extra else bucket


def _summed(bucket: Bucket, pairs: list[_Pair], extra: int) -> Bucket:
    """With the tokens that stand for dropped entries behind the others."""
    longest = bucket.at.shape[1]
    keys, values = (pad(x, (0, 0, 0, extra)) for x in (bucket.keys, bucket.values))
    at, stays = pad(bucket.at, (0, extra), value=-1), pad(bucket.stays, (0, extra), value=False)
    bias = torch.zeros(at.shape, device=at.device)
    for i, pair in enumerate(pairs):
        own, c, e = pair.kept.summary, pair.cache, slice(longest, longest + pair.summary)
        if own is not None:
            keys[i, e], values[i, e], there = own.keys[c], own.values[c], own.weight[c] > 0
            stays[i, e], at[i, e] = there, torch.where(there, -2, -1)
            bias[i, e] = own.weight[c].clamp_min(1).log()
    return replace(bucket, keys=keys, values=values, at=at, stays=stays, bias=bias)
