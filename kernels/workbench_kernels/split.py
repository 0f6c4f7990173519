"""Class edits at the cost of flash attention: a biased flash call, or flash over the others and the class keys densely.

biased: gains whose mass goes to all keys are a bias log g before the softmax: one call, with the bias as a row of a mask.
split: flash over the keys of class 0 gives O_0 and its log-sum-exp; the few keys of the classes are scored densely and
merged by logaddexp, so that nothing is formed as a difference.
twice: where the keys of one class are many, flash over them, too. Causal text on the CPU, without gradients.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench_kernels.class_edits import classes, edit_scores, factors, with_other
from workbench_kernels.cpu_flash import AWAY, flash, usable
from workbench_kernels.types import ALL, CLASSES, AttentionSpec, HeadEdits

SCRATCH = 1 << 21
"""Scores in a dense block."""


def suits(q: Tensor, k: Tensor, spec: AttentionSpec) -> bool:
    """Whether this attention is one that the flash operator can do."""
    square = q.shape[2] == k.shape[2] and spec.q_offset == spec.kv_offset
    plain = spec.causal(q.shape[2]) and spec.softcap is None and spec.sink_logits is None
    return square and plain and q.device.type == "cpu" and q.shape[2] > 1 and usable()


def biased(edits: HeadEdits, batch: int, heads: int) -> Bool[Tensor, "b h"]:
    """Heads whose class edits are a bias before the softmax."""
    true = torch.ones(batch, heads, dtype=torch.bool)
    if edits.boost is not None:
        true = true & (edits.boost == 0).all(-1)
    if edits.class_gain is None:
        return true
    free = torch.zeros(1, 1, dtype=torch.long) if edits.freed is None else edits.freed
    least = torch.zeros(1, 1, 1) if edits.least_mass is None else edits.least_mass
    gained = (edits.class_gain > 0).all(-1) & (free == ALL) & (least <= 0).all(-1)
    return true & (gained | (edits.class_gain == 1).all(-1))


def by_bias(
    q: Float[Tensor, "p 1 n d"], k: Float[Tensor, "p 1 n d"], v: Float[Tensor, "p 1 n d"],
    spec: AttentionSpec, edits: HeadEdits,
) -> Float[Tensor, "p 1 n d"]:  # fmt: skip
    """Output of heads that are `biased`, in one flash call."""
    onehot = classes(edits, slice(0, k.shape[2]), torch.float32)
    add = onehot.new_zeros(len(q), 1, onehot.shape[-1])
    for table in (edits.bias, None if edits.class_gain is None else edits.class_gain.float().log()):
        if table is not None:
            add = add + with_other(table, 0.0)
    mask = torch.matmul(onehot, add[..., None])[..., 0][:, :, None].expand(len(q), 1, 1, -1)
    if spec.padding is not None:
        mask = mask.masked_fill(~spec.padding[:, None, None], AWAY)
    z, lse = flash(q, k, v, mask.contiguous(), spec.scale)
    return z if spec.padding is None else z.masked_fill((lse < AWAY / 2)[..., None], 0.0)


def members(edits: HeadEdits, spec: AttentionSpec, pairs: int) -> Bool[Tensor, "p k"]:
    """Keys of the text that are in a class."""
    assert edits.key_class is not None
    inside = (edits.key_class[:, 0] > 0).expand(pairs, -1)
    return inside if spec.padding is None else inside & spec.padding


def by_split(
    q: Float[Tensor, "p 1 n d"], k: Float[Tensor, "p 1 n d"], v: Float[Tensor, "p 1 n d"],
    spec: AttentionSpec, edits: HeadEdits,
) -> Float[Tensor, "p 1 n d"]:  # fmt: skip
    """Output of heads with any class edits: flash over class 0, the other keys densely."""
    inside = members(edits, spec, len(q))
    away = inside if spec.padding is None else inside | ~spec.padding
    z, lse = flash(q, k, v, torch.zeros(away.shape).masked_fill(away, AWAY)[:, None, None], spec.scale)
    lse = lse.masked_fill(lse < AWAY / 2, float("-inf"))
    order = torch.argsort(inside.int(), dim=-1, descending=True, stable=True)[:, : int(inside.sum(-1).max())]
    at = order[:, None, :, None].expand(-1, 1, -1, q.shape[-1])
    few_k, few_v = k.gather(2, at).to(lse.dtype) * spec.scale, v.gather(2, at).to(lse.dtype)
    assert edits.key_class is not None
    few = replace(edits, key_class=edits.key_class.expand(len(q), 1, -1).gather(2, order[:, None]))
    there, n = inside.gather(1, order), q.shape[2]
    rows = max(16, SCRATCH // max(1, order.numel()))
    for start in range(0, n, rows):
        part = slice(start, min(n, start + rows))
        seen = there[:, None, None] & (order[:, None, None] <= torch.arange(part.start, part.stop)[:, None])
        s = torch.matmul(q[:, :, part].to(lse.dtype), few_k.mT)
        z[:, :, part] = _merged(z[:, :, part], lse[:, :, part], s, seen, few_v, few)
    return z


def single(edits: HeadEdits, batch: int, heads: int) -> Bool[Tensor, "b h"]:
    """Heads in which class 1 alone occurs, and no score is boosted."""
    assert edits.key_class is not None
    one = (edits.key_class <= 1).all(-1).expand(batch, heads)
    return one if edits.boost is None else one & (edits.boost == 0).all(-1)


def by_two(
    q: Float[Tensor, "p 1 n d"], k: Float[Tensor, "p 1 n d"], v: Float[Tensor, "p 1 n d"],
    spec: AttentionSpec, edits: HeadEdits,
) -> Float[Tensor, "p 1 n d"]:  # fmt: skip
    """Output of heads that are `single`: a flash call over the keys of class 0, one over those of class 1."""
    inside = members(edits, spec, len(q))
    others = ~inside if spec.padding is None else ~inside & spec.padding
    parts = []
    for keys in (others, inside):
        z, lse = flash(q, k, v, torch.zeros(keys.shape).masked_fill(~keys, AWAY)[:, None, None], spec.scale)
        parts.append((z, lse.masked_fill(lse < AWAY / 2, float("-inf"))))
    (z0, lse0), (z1, lse1) = parts
    if edits.bias is not None:
        lse1 = lse1 + edits.bias[:, :, None, 0]
    both = torch.logaddexp(lse0, lse1)
    both = both.masked_fill(both == float("-inf"), 0.0)
    mass = torch.nn.functional.pad(torch.stack([(lse0 - both).exp(), (lse1 - both).exp()], -1), (0, CLASSES - 1))
    if edits.class_gain is not None:
        mass = mass * factors(mass, edits, torch.ones(1, 1, 1, 1, dtype=torch.bool))
    return z0 * mass[..., :1] + z1 * mass[..., 1:2]


def _merged(z: Tensor, lse: Tensor, s: Tensor, seen: Tensor, v: Tensor, edits: HeadEdits) -> Tensor:
    """The output of class 0 and the scores of the other keys, as edited, made one output."""
    hold, keys = torch.ones(1, 1, 1, 1, dtype=torch.bool), slice(0, s.shape[-1])
    s = edit_scores(s, edits, hold, keys).masked_fill(~seen, float("-inf"))
    both = torch.logaddexp(lse, s.logsumexp(-1))[..., None]
    both = both.masked_fill(both == float("-inf"), 0.0)
    p, onehot, other = (s - both).exp(), classes(edits, keys, s.dtype), (lse[..., None] - both).exp()
    share = other
    if edits.class_gain is not None:
        mass = torch.cat([other, torch.matmul(p, onehot)[..., 1:]], -1)
        by_class = factors(mass, edits, hold)
        share, p = by_class[..., :1] * other, p * torch.matmul(by_class, onehot.mT)
    new = (z.to(lse.dtype) * share).flatten(0, 1)
    return new.baddbmm_(p.flatten(0, 1), v.flatten(0, 1)).view_as(z).to(z.dtype)
