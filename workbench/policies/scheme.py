"""What a policy answers: which entries of one prompt's cache stay, who reads what, and how the prompt itself is read.

c caches a layer: one for each key-value head (g), or for each query head (h) where a method's code repeats the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

OBSERVED = 64
"""Last rows of a prompt whose queries are at hand."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One prompt in one layer: all its keys and values, rotated, and the queries of its last rows.

    received: in every layer, the attention that each key gets from all rows together; only where a scheme accumulates.
    """

    keys: Float[Tensor, "g n d"]
    values: Float[Tensor, "g n d"]
    queries: Float[Tensor, "h r d"]
    scale: float
    received: Mapping[int, Float[Tensor, "h n"]] = field(default_factory=dict)
    _looks: dict[int, Float[Tensor, "h n"]] = field(default_factory=dict, repr=False)

    @property
    def tokens(self) -> int:
        """Of the prompt."""
        return self.keys.shape[1]

    def pattern(self, rows: int) -> Float[Tensor, "h r n"]:
        """Attention of the last rows, causal; of no more than are at hand."""
        g, n, _ = self.keys.shape
        queries = self.queries[:, -rows:]
        h, r, d = queries.shape
        scores = (queries.reshape(g, h // g * r, d) @ self.keys.mT).view(h, r, n).float() * self.scale
        own = torch.arange(n - r, n, device=scores.device)
        return scores.masked_fill(torch.arange(n, device=scores.device) > own[:, None], float("-inf")).softmax(-1)

    def observed(self, rows: int, per_kv: bool = True) -> Float[Tensor, "c n"]:
        """Mean attention that each key gets from the last rows, averaged over the query heads of a group."""
        if rows not in self._looks:  # the last look is kept: random lists ask for it again
            self._looks.clear()
            self._looks[rows] = self.pattern(rows).mean(1)
        mean = self._looks[rows]
        return mean.view(self.keys.shape[0], -1, mean.shape[-1]).mean(1) if per_kv else mean


@dataclass(frozen=True, eq=False)
class Summary:
    """Tokens that stand for dropped entries: a weight of m counts a token as m entries (log m on its score)."""

    keys: Float[Tensor, "c e d"]
    values: Float[Tensor, "c e d"]
    weight: Float[Tensor, "c e"]


@dataclass(frozen=True, eq=False)
class Kept:
    """Which entries each cache holds.

    entries: those of the prompt that stay whatever comes. recent: beside them the last so many positions stay, the newest
    included. grows: whether every generated token stays. keys, values: of the prompt, where the policy changes them.
    """

    entries: Bool[Tensor, "c n"]
    recent: Int[Tensor, " c"]
    grows: Bool[Tensor, " c"]
    keys: Float[Tensor, "c n d"] | None = None
    values: Float[Tensor, "c n d"] | None = None
    summary: Summary | None = None

    @property
    def caches(self) -> int:
        """Caches of the layer."""
        return self.entries.shape[0]

    def held(self) -> Bool[Tensor, "c n"]:
        """What is there when the prompt has been read."""
        n = self.entries.shape[1]
        return self.entries | (torch.arange(n, device=self.entries.device) >= n - self.recent[:, None])


@dataclass(frozen=True)
class Reading:
    """What a reading policy is asked in one layer, for pairs of prompt and key-value head of equal group size.

    scores: before the softmax, -inf where there is no key. at: position of each key, -1 where there is none. steps:
    positions of the queries. lengths: of the prompts. rows: which prompt each pair is of. before: scores of the row right
    before the first step, which read everything.
    """

    scores: Float[Tensor, "p r t m"]
    at: Int[Tensor, "p m"]
    steps: Int[Tensor, "p t"]
    lengths: Int[Tensor, " p"]
    rows: Int[Tensor, " p"]
    before: Callable[[], Float[Tensor, "p r m"]]


Read = Callable[[int, Reading], Tensor]
"""(layer, what is there) → [p, r, t, m], the keys of the prompt that are read; generated ones always are."""


@dataclass(frozen=True, eq=False)
class Streams:
    """How streaming heads read the prompt: `sink` first tokens, `recent` last ones, by rows or (chunk > 0) by chunks.

    heads: layer → which key-value heads stream. renumbered: sinks stand as near as in the cache (StreamingLLM).
    """

    heads: Mapping[int, Bool[Tensor, " g"]]
    sink: int
    recent: int
    chunk: int = 0
    renumbered: bool = False

    def low(self, rows: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The first position, sinks aside, that each row sees."""
        start = rows + 1 if not self.chunk else rows // self.chunk * self.chunk
        return (start - self.recent).clamp_min(0)


@dataclass(frozen=True)
class Slashes:
    """How every query head reads the prompt: `vertical` keys, and keys at `slash` distances, from its last rows' attention.

    first, last: so many first keys, and shortest distances, are always among them.
    """

    vertical: int
    slash: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Scheme:
    """A policy at one budget.

    keep: (layer, prompt) → what stays of it. prefill: how the prompt is read; None: by plain attention. read: None where
    everything that is kept is read. renumbered: positions count inside the cache. accumulates: `keep` looks at what all rows
    look at (`Seen.received`). together: it looks at all layers, which are cut when the last one has been read. constants: for
    the report.
    """

    keep: Callable[[int, Seen], Kept]
    constants: Mapping[str, Any] = field(default_factory=dict)
    prefill: Streams | Slashes | None = None
    read: Read | None = None
    renumbered: bool = False
    accumulates: bool = False
    together: bool = False


def everything(seen: Seen) -> Kept:
    """Of one prompt, in every key-value head."""
    return chosen(torch.ones(seen.keys.shape[:2], dtype=torch.bool, device=seen.keys.device))


def keep_all(layer: int, seen: Seen) -> Kept:
    """`Scheme.keep` of policies that evict nothing."""
    return everything(seen)


def chosen(entries: Bool[Tensor, "c n"]) -> Kept:
    """Those entries, and all generated tokens."""
    c = entries.shape[0]
    none = torch.zeros(c, dtype=torch.long, device=entries.device)
    return Kept(entries, none, torch.ones(c, dtype=torch.bool, device=entries.device))


def first(seen: Seen, sink: int) -> Bool[Tensor, "g n"]:
    """The first tokens, in every key-value head."""
    return (torch.arange(seen.tokens, device=seen.keys.device) < sink).expand(seen.keys.shape[0], -1)
