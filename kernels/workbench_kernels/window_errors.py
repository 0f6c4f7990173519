"""What a head's output loses in a window, for several windows in one pass over the keys.

Keys are met band by band, nearest first: the sinks and the first window, then what each further window adds. Every band
is folded into running accumulators (Milakov & Gimelshein 2018, arXiv 1805.02867), which hold the output of one window
after another; the last of them is plain attention. Never an N×N matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROWS = 64
"""Queries in a block: what adjoining bands of a block have in common is computed twice."""


def window_errors(
    q: Float[Tensor, "b h r d"], k: Float[Tensor, "b g n d"], v: Float[Tensor, "b g n e"], scale: float,
    at: Int[Tensor, "b r"], windows: Sequence[int], sink: int,
) -> Float[Tensor, "b h r w"]:  # fmt: skip
    """‖z − z_w‖ / ‖z‖ of causal queries that stand at the positions `at`, which rise in each row of the batch.

    z: their output over all keys before them, their own included; z_w: over the first `sink` keys and the last `w` ones.
    windows: rising, in tokens. Heads h share kv heads g in consecutive groups. 0 where nothing is lost, even of nothing.
    """
    blocks = range(0, q.shape[2], ROWS)
    return torch.cat(
        [_block(q[:, :, i : i + ROWS], k, v, scale, at[:, i : i + ROWS], windows, sink) for i in blocks], 2
    )


def _block(
    q: Tensor, k: Tensor, v: Tensor, scale: float, at: Int[Tensor, "b r"], windows: Sequence[int], sink: int
) -> Float[Tensor, "b h r w"]:
    running, outputs = _Running(q, v.shape[-1]), []
    first = torch.arange(min(sink, k.shape[2]), device=q.device)
    running.fold(q, k, v, scale, first, first <= at[..., None])
    near = 0
    for window in (*windows, k.shape[2]):
        low, high = max(sink, int(at.min()) - window + 1), int(at.max()) - near
        if low <= high and window > near:
            keys = torch.arange(low, high + 1, device=q.device)
            back = at[..., None] - keys
            running.fold(q, k, v, scale, keys, (back >= near) & (back < window))
        outputs.append(running.output())
        near = max(near, window)
    whole = outputs[-1]
    off = torch.stack([(z - whole).norm(dim=-1) for z in outputs[:-1]], -1)
    return off / whole.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(whole.dtype).tiny)


class _Running:
    """Softmax over the keys so far: greatest score, sum of weights, weighted values."""

    def __init__(self, q: Float[Tensor, "b h r d"], width: int) -> None:
        kind = torch.promote_types(q.dtype, torch.float32)
        self.top = torch.full(q.shape[:3], float("-inf"), dtype=kind, device=q.device)
        self.sum = torch.zeros_like(self.top)
        self.values = torch.zeros(*q.shape[:3], width, dtype=kind, device=q.device)

    def fold(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, keys: Int[Tensor, " m"], seen: Bool[Tensor, "b r m"]
    ) -> None:
        """Take in the keys of a band, each query those that it sees."""
        b, h, r, _ = q.shape
        g = k.shape[1]
        some_k, some_v = (x[:, :, keys].to(self.top.dtype) for x in (k, v))
        scores = (q.to(self.top.dtype).reshape(b, g, h // g * r, -1) @ some_k.mT).view(b, h, r, -1) * scale
        scores = scores.masked_fill(~seen[:, None], float("-inf"))
        top = torch.maximum(self.top, scores.amax(-1)) if len(keys) else self.top
        shift = top.masked_fill(top == float("-inf"), 0.0)  # a query that has seen nothing yet
        weights, kept = (scores - shift[..., None]).exp(), (self.top - shift).exp()
        own = (weights.view(b, g, h // g * r, -1) @ some_v).view(b, h, r, -1)
        self.sum = self.sum * kept + weights.sum(-1)
        self.values = self.values * kept[..., None] + own
        self.top = top

    def output(self) -> Float[Tensor, "b h r e"]:
        """Of the keys so far."""
        return self.values / self.sum[..., None]
