"""Attention of some heads in the middle of a forward, for edits that look for their keys before they can be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from workbench_kernels import AttentionSpec, HeadEdits, Reductions
from workbench_kernels.cutting import select_heads
from workbench_kernels.statistics import statistics

from workbench.masks import CompactMask

Look = Callable[[list[int], Sequence[HeadEdits], Bool[Tensor, "b k"], Int[Tensor, "b s"] | None], Tensor]
"""(heads, edits that are already known, columns of the text, keys) → attention that each key receives in these heads, the
mean over the queries of the text that see it, [b, heads, k]; with keys, what each query pays them, [b, heads, q, s] (later
queries than the text's may be missing)."""


@dataclass(frozen=True)
class Seen:
    """What a rule may look at: the text, whose columns alone are no padding in `mask`, and attention in some heads."""

    mask: CompactMask
    look: Callable[[Int[Tensor, "b s"] | None], Tensor]

    def received(self) -> Float[Tensor, "b h k"]:
        """Attention that each key receives: the mean over the queries of the text that see it."""
        return self.look(None)

    def paid(self, keys: Int[Tensor, "b s"]) -> Float[Tensor, "b h q s"]:
        """Attention that each query pays to some keys."""
        return self.look(keys)


@torch.no_grad()
def from_scores(q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], spec: AttentionSpec) -> Look:
    """By the kernels, a sweep over these heads alone."""

    def look(heads: list[int], edits: Sequence[HeadEdits], text: Tensor, keys: Tensor | None) -> Tensor:
        index = torch.tensor(heads, device=q.device)
        rows = slice(
            0, int(text.any(0).nonzero()[-1]) + 1 + spec.kv_offset - spec.q_offset
        )  # later ones see nothing new
        sinks = None if spec.sink_logits is None else spec.sink_logits[index]
        padding = spec.padding if bool(text.all()) else text
        part = replace(spec, padding=padding, first=spec.first_valid(len(q), q.device), sink_logits=sinks)
        some_q, some_k = q[:, index, rows], k[:, index // (q.shape[1] // k.shape[1])]
        cut = [select_heads(e, heads) for e in edits]
        spans = None if keys is None else torch.stack([keys, keys + 1], -1)
        found = statistics(some_q, some_k, part, cut, Reductions(received=keys is None, spans=spans))
        out = found.received if keys is None else found.mass
        assert out is not None
        return out

    return look


def from_pattern(
    p: Float[Tensor, "b h q k"], spec: AttentionSpec, edit: Callable[[Tensor, Sequence[HeadEdits]], Tensor]
) -> Look:
    """From a whole pattern that is at hand. edit: applies edits to it."""

    def look(heads: list[int], edits: Sequence[HeadEdits], text: Tensor, keys: Tensor | None) -> Tensor:
        edited, (b, _, n, m) = edit(p, edits)[:, heads], p.shape
        if keys is not None:
            return edited.float().gather(-1, keys[:, None, None].expand(-1, edited.shape[1], n, -1))
        own = torch.arange(n, device=p.device) + spec.q_offset - spec.kv_offset
        valid = text[:, own][:, None, :, None]
        seen = spec.visible(torch.arange(n, device=p.device)[None], slice(0, m), b) & text[:, None, None] & valid
        return (edited.float() * seen).sum(2) / seen.sum(2).clamp_min(1)

    return look
