"""Attention of the last columns of a prompt over keys that many runs share and keys of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from workbench_kernels import AttentionSpec

from workbench.patching.recording import Layer


@dataclass(frozen=True)
class Columns:
    """Columns of each batch row that are computed anew: from `start` on; `real` is false for those that only fill up."""

    start: Int[Tensor, " b"]
    index: Int[Tensor, "b m"]
    real: Bool[Tensor, "b m"]

    @classmethod
    def between(cls, start: Int[Tensor, " b"], end: Int[Tensor, " b"]) -> Columns:
        """From `start` to `end`, both included."""
        index = start[:, None] + torch.arange(int((end - start).max()) + 1, device=start.device)
        return cls(start, index.minimum(end[:, None]), index <= end[:, None])

    def seen(self, spec: AttentionSpec, n: int) -> tuple[Bool[Tensor, "b 1 m past"], Bool[Tensor, "b 1 m m"]]:
        """Which clean keys before `start` and which new ones each column sees."""
        batch, m = self.index.shape
        whole = spec.visible(self.index, slice(0, n), batch).expand(batch, 1, m, n)
        past = int(self.start.max())
        before = torch.arange(past, device=self.start.device) < self.start[:, None]
        own = whole.gather(-1, self.index[:, None, None].expand(-1, 1, m, -1))
        return whole[..., :past] & before[:, None, None], own & self.real[:, None, None]


def attend_suffix(
    q: Float[Tensor, "sb h m e"], k: Float[Tensor, "sb g m e"], v: Float[Tensor, "sb g m e"], clean: Layer,
    columns: Columns, spec: AttentionSpec,
) -> Float[Tensor, "sb h m e"]:  # fmt: skip
    """Rows of q are runs × batch, run by run; the clean keys of a batch row serve all its runs without a copy."""
    batch, groups, past = clean.keys.shape[0], k.shape[1], int(columns.start.max())
    runs, heads, m = q.shape[0] // batch, q.shape[1] // groups, q.shape[2]
    q = q.view(runs, batch, groups, heads, m, -1).permute(1, 2, 0, 3, 4, 5)
    k, v = (x.view(runs, batch, groups, m, -1).permute(1, 2, 0, 3, 4)[:, :, :, None] for x in (k, v))
    rows = q.reshape(batch, groups, runs * heads * m, -1)
    shared = (rows @ clean.keys[:, :, :past].mT).view(*q.shape[:-1], past)
    scores = torch.cat([shared, q @ k.mT], -1)
    weights = _softmax(scores, columns.seen(spec, clean.keys.shape[2]), spec, groups).to(v.dtype)
    old, new = weights.split([past, m], -1)
    z = (old.reshape(batch, groups, -1, past) @ clean.values[:, :, :past]).view(*old.shape[:-1], -1) + new @ v
    return z.permute(2, 0, 1, 3, 4, 5).reshape(runs * batch, groups * heads, m, -1)


def _softmax(
    scores: Float[Tensor, "b g s r m k"], seen: tuple[Tensor, Tensor], spec: AttentionSpec, groups: int
) -> Float[Tensor, "b g s r m k"]:
    """In at least float32, scaled, soft-capped, masked; a learned sink takes its share."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * spec.scale
    if spec.softcap is not None:
        scores = torch.tanh(scores / spec.softcap) * spec.softcap
    scores = scores.masked_fill(~torch.cat(seen, -1)[:, :, None, None], float("-inf"))
    if spec.sink_logits is None:
        return scores.softmax(-1)
    sink = spec.sink_logits.to(scores.dtype).view(1, groups, 1, -1, 1, 1).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
