"""Statistics of whole N×N patterns from their definitions, in float64: what `backend="hooks"` answers probes with."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from workbench_kernels import AttentionSpec, Matches, Reductions, Statistics

Pattern = Float[Tensor, "b h q k"]


class Whole:
    """A whole pattern, zero where nothing is seen, and what is needed to reduce it."""

    def __init__(
        self, p: Pattern, lse: Float[Tensor, "b h q"], seen: Bool[Tensor, "b 1 q k"], spec: AttentionSpec
    ) -> None:
        self.p, self.lse, self.seen, self.spec = p, lse, seen, spec
        self.b, self.h, self.n, self.m = p.shape
        self.query = torch.arange(self.n, device=p.device) + spec.q_offset
        self.key = torch.arange(self.m, device=p.device) + spec.kv_offset
        own, padding = self.query - spec.kv_offset, spec.padding
        valid = torch.ones(self.b, self.n, dtype=torch.bool) if padding is None else padding[:, own.to(padding.device)]
        self.valid = valid.to(p.device)
        self.of_text = p * self.valid[:, None, :, None]

    def reduce(self, want: Reductions) -> Statistics:
        """What was asked for; norms, which are not of the pattern, aside."""
        out, p = Statistics(), self.p
        if want.lse:
            out.lse = self.lse
        if want.received:
            count = (self.seen & self.valid[:, None, :, None]).sum(2)
            out.received = self.of_text.sum(2) / count.clamp_min(1)
        if want.offsets:
            each = [self.query[:, None] - self.key == offset for offset in want.offsets]
            out.at_offset = torch.stack([(p * here).sum(-1) for here in each], -1)
        if want.entropy:
            out.entropy = -torch.xlogy(p, p).sum(-1)
        if want.sink_mass:
            sinks = p.new_full((1,), float("nan")) if self.spec.sink_logits is None else self.spec.sink_logits.double()
            out.sink_mass = (sinks[None, :, None] - self.lse).exp()
        if want.distance:
            out.distance = self._distance()
        if want.profile:
            out.profile = self._by_distance(self.p)
        if want.moments:
            out.moments = torch.stack([(self.p * self._far() ** e).sum(-1) for e in (1, 2)], -1)
        if want.matches is not None:
            out.matched = self._matched(want.matches)
        if want.thumbnail:
            out.thumbnail = self._thumbnail(want.thumbnail)
        rows = p if want.rows is None else self._rows(want.rows)
        if want.top_k:
            out.top_values, out.top_indices = rows.topk(min(want.top_k, self.m), -1)
        if want.spans is not None:
            out.mass = self._masses(rows, want.spans)
        return out

    def _rows(self, rows: Int[Tensor, "b r"]) -> Pattern:
        return torch.stack([p[:, at] for p, at in zip(self.p, rows.to(self.p.device), strict=True)])

    def _masses(self, rows: Pattern, spans: Int[Tensor, "b s 2"]) -> Float[Tensor, "b h r s"]:
        each = [
            torch.stack([p[..., s:e].sum(-1) for s, e in at], -1) for p, at in zip(rows, spans.tolist(), strict=True)
        ]
        return torch.stack(each)

    def _distance(self) -> Float[Tensor, "b h bins"]:
        return self._by_distance(self.of_text).sum(2) / self.valid.sum(-1).clamp_min(1)[:, None, None]

    def _by_distance(self, p: Pattern) -> Float[Tensor, "b h q bins"]:
        distance = self.query[:, None] - self.key
        longest = max(1, int(self.query[-1]) + 1 - self.spec.kv_offset) - 1
        bins = [distance == 0, *((distance >= 2**i) & (distance < 2 ** (i + 1)) for i in range(longest.bit_length()))]
        return torch.stack([(p * inside).sum(-1) for inside in bins], -1)

    def _far(self) -> Float[Tensor, "q k"]:
        return (self.query[:, None] - self.key).clamp_min(0).to(self.p)

    def _matched(self, matches: Matches) -> Float[Tensor, "b h q l"]:
        same = matches.queries[:, None, :, None] == matches.keys[:, :, None]
        same = same.to(self.p.device) & (self.key <= self.query[:, None])
        each = [self.p * (self.p >= least) * same[:, i, None] for i, least in enumerate(matches.least)]
        return torch.stack([x.sum(-1) for x in each], -1)

    def _thumbnail(self, side: int) -> Float[Tensor, "b h 2 n n"]:
        size = -(-(max(int(self.query[-1]), int(self.key[-1])) + 1) // side)
        out = self.p.new_zeros(self.b, self.h, 2, side, side)
        for r in set((self.query // size).tolist()):
            here = self.query // size == r
            rows, count = self.of_text[:, :, here], self.valid[:, here].sum(-1).clamp_min(1)[:, None]
            for c in set((self.key // size).tolist()):
                cell = rows[..., self.key // size == c]
                out[:, :, 0, r, c] = cell.sum((-1, -2)) / count
                out[:, :, 1, r, c] = cell.amax((-1, -2))
        return out
