"""Heads with a window of their own, at the cost of the keys in the window: flash over them and the sink keys.

A block of queries sees the keys from the oldest query's window on, and a few sink keys before them, which are put in front.
Any mask that is not a function, without gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from workbench_kernels.patterns import block, visible
from workbench_kernels.types import AttentionSpec, HeadEdits

ROWS = 128
"""Queries in a block."""


def suits(spec: AttentionSpec) -> bool:
    """Whether flash can do it."""
    return spec.allowed is None and spec.softcap is None and spec.sink_logits is None


def by_window(
    q: Float[Tensor, "p 1 n d"], k: Float[Tensor, "p 1 m d"], v: Float[Tensor, "p 1 m d"],
    spec: AttentionSpec, edits: HeadEdits,
) -> Float[Tensor, "p 1 n d"]:  # fmt: skip
    """Output of heads whose only edit is a window."""
    assert edits.window is not None
    m, sink = k.shape[2], edits.sink
    first = spec.first_valid(len(q), q.device) - spec.kv_offset
    at = (first[:, None] + torch.arange(sink, device=q.device)).expand(len(q), -1)  # columns of the sinks
    here = (at >= 0) & (at < m)
    index = at.clamp(0, m - 1)[:, None, :, None].expand(-1, 1, -1, k.shape[-1])
    few_k, few_v = k.gather(2, index), v.gather(2, index)
    widest, out = int(edits.window.max()), []
    for start in range(0, q.shape[2], ROWS):
        stop = min(q.shape[2], start + ROWS)
        own = spec.q_offset - spec.kv_offset
        keys = spec.keys(start, stop, m)
        keys = slice(min(keys.stop, max(keys.start, start + own - widest + 1)), keys.stop)
        seen = visible(spec, edits, len(q), block(start, stop, q.device), keys).expand(len(q), 1, -1, -1)
        before = _before(spec, at, here & (at < keys.start), start, stop)
        some_k, some_v, mask = k[:, :, keys], v[:, :, keys], seen
        if keys.start:
            some_k, some_v = torch.cat([few_k, some_k], 2), torch.cat([few_v, some_v], 2)
            mask = torch.cat([before, seen], -1)
        z = F.scaled_dot_product_attention(q[:, :, start:stop], some_k, some_v, attn_mask=mask, scale=spec.scale)
        out.append(z.masked_fill(~mask.any(-1, keepdim=True), 0.0))
    return torch.cat(out, 2)


def _before(
    spec: AttentionSpec, at: Tensor, there: Bool[Tensor, "p s"], start: int, stop: int
) -> Bool[Tensor, "p 1 q s"]:
    """Which sink keys, of those that lie before a block's other keys, its queries see."""
    own = torch.arange(start, stop, device=at.device)[:, None] + spec.q_offset - spec.kv_offset
    seen = there[:, None] & (at[:, None] <= own)
    if spec.sliding is not None:
        seen = seen & (own - at[:, None] < spec.sliding)
    if spec.padding is not None:
        seen = seen & spec.padding.to(at.device).gather(1, at.clamp(0, spec.padding.shape[1] - 1))[:, None]
    return seen[:, None]
