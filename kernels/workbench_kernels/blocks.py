"""Whole rows of the pattern, a block of queries at a time, on scratch memory that the next block uses again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench_kernels.patterns import block, phased
from workbench_kernels.types import AttentionSpec, HeadEdits, Reductions

AWAY = -1e30
"""The score of a key that a query does not see; finite, for a row that sees nothing must not become NaN."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some queries of heads that share a kv head: their weights over a slice of the keys.

    share: the pattern is w · share; None where it is w (see `plain`). lse: None where nobody asks. score: mean score of
    each row under w; None for edited patterns. valid: None where all queries are of the text. seen: the model's mask,
    where it had to be made. mass: on spans.
    """

    heads: slice
    start: int
    stop: int
    keys: slice
    w: Float[Tensor, "b h q k"]
    share: Float[Tensor, "b h q"] | None
    lse: Float[Tensor, "b h q"] | None
    score: Float[Tensor, "b h q"] | None
    valid: Bool[Tensor, "b q"] | None
    seen: Bool[Tensor, "#b 1 q k"] | None

    def times(self, x: Float[Tensor, "b k e"]) -> Float[Tensor, "b h q e"]:
        """Pattern times a matrix."""
        b, h, n, m = self.w.shape
        return self.shared(torch.bmm(self.w.view(b, h * n, m), x).view(b, h, n, x.shape[-1]))

    def shared(self, x: Float[Tensor, "b h q e"]) -> Float[Tensor, "b h q e"]:
        """What was made of w, as made of the pattern."""
        return x if self.share is None else x * self.share[..., None]

    @cached_property
    def of_text(self) -> Float[Tensor, "b h q 1"]:
        """Share of a row; zero in queries that are padding."""
        share = torch.ones_like(self.w[..., 0]) if self.share is None else self.share
        return (share if self.valid is None else share * self.valid[:, None])[..., None]

    @cached_property
    def columns(self) -> Float[Tensor, "b h k"]:
        """Attention that each key gets from the valid queries."""
        return torch.matmul(self.of_text.mT, self.w)[..., 0, :]

    @property
    def entropy(self) -> Float[Tensor, "b h q"]:
        """Of each row, in nats: −Σ p log p = share · (lse − mean score), which needs no logarithm of a weight."""
        if self.score is None or self.lse is None:
            p = self.shared(self.w)
            return -torch.xlogy(p, p).sum(-1)
        mean = self.lse - self.score
        mean = torch.where(self.lse.isfinite(), mean if self.share is None else mean * self.share, 0.0)
        return mean.clamp_min(0)


def scratch(size: int, device: torch.device) -> Float[Tensor, "2 n"]:
    """Room for the scores and the weights of a block."""
    return torch.empty(2, size, dtype=torch.float32, device=device)


def plain(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b m d"],
    spec: AttentionSpec,
    heads: slice,
    rows: slice,
    valid: Bool[Tensor, "b n"] | None,
    room: Float[Tensor, "2 n"],
    want: Reductions,
) -> Block:
    """The unedited pattern of some rows; q is cut to the heads, the spec's learned sinks, too.

    A learned sink takes 1 − share of a row; a row that sees nothing has share 0 and a log-sum-exp of minus infinity.
    """
    (b, h), n = q.shape[:2], rows.stop - rows.start
    keys = spec.keys(rows.start, rows.stop, k.shape[1])
    m = keys.stop - keys.start
    s, w = (x[: b * h * n * m].view(b, h, n, m) for x in room)
    part = (q[:, :, rows].float() * spec.scale).reshape(b, h * n, -1)
    torch.bmm(part, k[:, keys].mT, out=s.view(b, h * n, m))
    if spec.softcap is not None:
        s.div_(spec.softcap).tanh_().mul_(spec.softcap)
    seen = hide(s, spec, rows, keys)
    own = rows.start + spec.q_offset - spec.kv_offset
    sure = spec.allowed is None and spec.padding is None and own >= 0 and own + n <= k.shape[1]  # of a key of its own
    most = None
    if want.lse or want.sink_mass or want.entropy or spec.sink_logits is not None or not sure:
        most = s.amax(-1) if m else s.new_full((b, h, n), AWAY)
    torch.softmax(s, -1, out=w)
    score = s.mul_(w).sum(-1) if want.entropy else None
    share = lse = None
    if most is not None:
        share, lse = _normalised(most, w.amax(-1) if m else torch.ones_like(most), spec)
    return Block(heads, rows.start, rows.stop, keys, w, share, lse, score, cut(valid, rows), seen)


def _normalised(
    most: Float[Tensor, "b h q"], weight: Float[Tensor, "b h q"], spec: AttentionSpec
) -> tuple[Float[Tensor, "b h q"] | None, Float[Tensor, "b h q"]]:
    """Share and log-sum-exp of rows, from the greatest score and its weight."""
    dead = most < AWAY / 2
    lse = (most - weight.log()).masked_fill(dead, float("-inf"))
    if spec.sink_logits is not None:
        both = torch.logaddexp(lse, spec.sink_logits.to(lse)[None, :, None].expand_as(lse))
        return (lse - both).exp(), both
    return (~dead).to(lse) if bool(dead.any()) else None, lse


def edited(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b m d"],
    spec: AttentionSpec,
    edits: Sequence[HeadEdits],
    heads: slice,
    rows: slice,
    valid: Bool[Tensor, "b n"] | None,
) -> Block:
    """The pattern of some rows as edited."""
    keys = spec.keys(rows.start, rows.stop, k.shape[1])
    queries = block(rows.start, rows.stop, q.device)
    w, lse = phased(q[:, :, rows].float(), k[:, None, keys], spec, edits, queries, keys)
    return Block(heads, rows.start, rows.stop, keys, w.contiguous(), None, lse, None, cut(valid, rows), None)


def cut(valid: Bool[Tensor, "b n"] | None, rows: slice) -> Bool[Tensor, "b q"] | None:
    """The flags of some queries."""
    return None if valid is None else valid[:, rows]


def hide(s: Float[Tensor, "b h q k"], spec: AttentionSpec, rows: slice, keys: slice) -> Bool[Tensor, "#b 1 q k"] | None:
    """Put AWAY, in place, what the rows do not see.

    Of a causal block only the last columns need a mask, and the first ones where a window slides.
    """
    if spec.allowed is not None:
        seen = spec.visible(block(rows.start, rows.stop, s.device), keys, len(s))
        s.masked_fill_(~seen, AWAY)
        return seen
    n, m = s.shape[-2:]
    own = rows.start + spec.q_offset - spec.kv_offset - keys.start  # column of the first row's own key
    i = torch.arange(n, device=s.device)[:, None] + own
    first = max(0, min(own + 1, m))
    s[..., first:].masked_fill_(torch.arange(first, m, device=s.device) > i, AWAY)
    if spec.sliding is not None:  # the last row's first key comes after some that earlier rows see
        last = max(0, min(own + n - spec.sliding, m))
        s[..., :last].masked_fill_(torch.arange(last, device=s.device) <= i - spec.sliding, AWAY)
    if spec.padding is not None:
        s.masked_fill_(~spec.padding[:, None, None, keys].to(s.device), AWAY)
    return None


def valid_queries(spec: AttentionSpec, n: int, keys: int, device: torch.device) -> Bool[Tensor, "b n"] | None:
    """Queries of the text: those whose own key is not padding; None where all are."""
    if spec.padding is None:
        return None
    own = torch.arange(n, device=device) + spec.q_offset - spec.kv_offset
    here = (own >= 0) & (own < keys)
    return spec.padding.to(device)[:, own.clamp(0, max(0, keys - 1))] | ~here
