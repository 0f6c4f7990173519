"""Torch's flash operator for the CPU, which gives the log-sum-exp beside the output; and what that is good for.

The operator is private to torch: `usable` tries on small numbers what is asked of it, and its callers have other ways.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from workbench_kernels.types import AttentionSpec

AWAY = -1e30
"""A bias that leaves a key no weight; finite, for a row that sees nothing else must not become NaN."""


def flash(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b h k d"], v: Float[Tensor, "b h k d"], mask: Tensor | None,
    scale: float, causal: bool = True,
) -> tuple[Float[Tensor, "b h q d"], Float[Tensor, "b h q"]]:  # fmt: skip
    """Output and log-sum-exp. mask: added to the scores. causal: query i sees the keys 0…i."""
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    if mask is not None and q.dtype == torch.float64:
        mask = mask.double()  # the operator would read one of float32 as if it were float64
    return op(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)


@cache
def usable() -> bool:
    """Whether the operator takes a mask beside its causal flag, which is not documented, and gives natural logarithms."""
    try:
        x, mask = torch.eye(3)[None, None], torch.tensor([[[[AWAY, 0.0, 0.0]]]])
        z, lse = flash(x, x, x, mask, 1.0)
        _, every = flash(x, x, x, None, 1.0, causal=False)
    except (AttributeError, RuntimeError, TypeError):
        return False
    e = float(torch.tensor(1.0).exp())
    return bool(
        torch.allclose(z[0, 0, 1], torch.tensor([0.0, 1.0, 0.0]))
        and torch.allclose(z[0, 0, 2], torch.tensor([0.0, 1.0, e]) / (1 + e))
        and torch.allclose(lse[0, 0, 1:].exp(), torch.tensor([e, 1 + e]))
        and torch.allclose(every.exp(), torch.tensor(2 + e))
    )


def grouped(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], v: Float[Tensor, "b g k d"], scale: float,
    mask: Tensor | None = None,
) -> Float[Tensor, "b h q d"]:  # fmt: skip
    """Attention in which every query sees every key, or what a mask over keys alone says.

    The heads of a kv head are so many queries of one head: their keys are not copied for each (a decoding step on one
    thread: 1.8 to 2.7 times as fast).
    """
    z = F.scaled_dot_product_attention(_by_kv_head(q, k), k, v, attn_mask=mask, scale=scale)
    return z.reshape(*q.shape[:3], v.shape[-1])


def _by_kv_head(q: Tensor, k: Tensor) -> Float[Tensor, "b g hq d"]:
    b, h, n, d = q.shape
    return q.reshape(b, k.shape[1], h // k.shape[1] * n, d)


def is_suffix(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> bool:
    """Whether the queries are the last ones of a plain causal text on the CPU, with keys before the first of them."""
    n, past = q.shape[2], spec.q_offset - spec.kv_offset
    placed = n > 1 and past > 0 and past + n <= k.shape[2] and q.shape[-1] == v.shape[-1]
    plain = spec.padding is None and spec.causal(n) and spec.softcap is None and spec.sink_logits is None
    return placed and plain and q.device.type == "cpu" and usable()


def of_suffix(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], v: Float[Tensor, "b g k d"], spec: AttentionSpec
) -> Float[Tensor, "b h q d"]:
    """Output where `is_suffix`: all of the past without a mask, the queries' own keys causally, merged by log-sum-exp."""
    n, past, group = q.shape[2], spec.q_offset - spec.kv_offset, q.shape[1] // k.shape[1]
    z, lse = flash(_by_kv_head(q, k), k[:, :, :past], v[:, :, :past], None, spec.scale, causal=False)
    z, lse = z.reshape(*q.shape[:3], v.shape[-1]), lse.reshape(q.shape[:3])
    own_k, own_v = (x[:, :, past : past + n].repeat_interleave(group, 1) for x in (k, v))
    own, own_lse = flash(q, own_k, own_v, None, spec.scale)
    share = torch.sigmoid(own_lse - lse)[..., None]  # of the own keys in both together
    dtype = torch.promote_types(q.dtype, torch.float32)
    return torch.lerp(z.to(dtype), own.to(dtype), share.to(dtype)).to(q.dtype)
