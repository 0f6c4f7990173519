"""Edits of the pattern by key class and by row, on the block of queries at hand.

A key's class is a small integer; every edit of a class is one number per (query, class), so a block costs two thin
products: masses = p · one-hot, and weights = p × (factors · one-hotᵀ). Each class has its own sum: forming class 0 as
"all minus the others" cancels where a sink holds nearly all of the mass.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench_kernels.types import ALL, CLASSES, OTHERS, HeadEdits, RowPatterns


def classes(edits: HeadEdits, keys: slice, dtype: torch.dtype) -> Float[Tensor, "#b #h k all"]:
    """One-hot class of each key of a slice, class 0 included."""
    assert edits.key_class is not None
    held = edits.key_class[..., keys, None]
    return (held == torch.arange(CLASSES + 1, device=held.device)).to(dtype)


def with_other(table: Float[Tensor, "#b h c"], value: float) -> Float[Tensor, "#b h all"]:
    """A table per class with a first column for class 0, and as many as there can be; those added are never edited."""
    return torch.nn.functional.pad(table, (1, CLASSES - table.shape[-1]), value=value)


def edit_scores(
    s: Float[Tensor, "b h q k"], edits: HeadEdits, hold: Bool[Tensor, "#b 1 q 1"], keys: slice
) -> Float[Tensor, "b h q k"]:
    """boost · |score| added (PAI), then bias."""
    if edits.key_class is None or (edits.boost is None and edits.bias is None):
        return s
    onehot, new = classes(edits, keys, s.dtype), s
    if edits.boost is not None:
        new = new + s.abs() * _per_key(edits.boost, onehot)
    if edits.bias is not None:
        new = new + _per_key(edits.bias, onehot)
    return torch.where(hold, new, s)


def _per_key(table: Float[Tensor, "#b h c"], onehot: Float[Tensor, "#b #h k all"]) -> Float[Tensor, "b h 1 k"]:
    return torch.matmul(onehot, with_other(table.to(onehot.dtype), 0.0)[..., None])[..., 0][:, :, None]


def edit_classes(
    p: Float[Tensor, "b h q k"], edits: HeadEdits, hold: Bool[Tensor, "#b 1 q 1"], keys: slice
) -> Float[Tensor, "b h q k"]:
    """The class gains, and what becomes of the mass that they free."""
    if edits.key_class is None or edits.class_gain is None:
        return p
    onehot = classes(edits, keys, p.dtype)
    mass = torch.matmul(p, onehot)
    return p * torch.matmul(factors(mass, edits, hold), onehot.mT)


def factors(
    mass: Float[Tensor, "b h q all"], edits: HeadEdits, hold: Bool[Tensor, "#b 1 q 1"]
) -> Float[Tensor, "b h q all"]:
    """What each class of a row is multiplied by, from the row's masses alone (class 0 first).

    none: g. others: g, and 1 + Σ (1 − g_c) m_c / m_0 for class 0 (ACT, Yu et al. 2024, arXiv 2406.15765), 0 where gains
    above 1 take more than class 0 has. all: g times what keeps the row's sum, which is 1 without a learned sink. A row
    that nobody can receive in is left as it was.
    """
    assert edits.class_gain is not None
    gain = with_other(edits.class_gain.to(mass.dtype), 1.0)[:, :, None]
    live = hold
    if edits.least_mass is not None:
        live = hold & (mass > with_other(edits.least_mass.to(mass.dtype), float("inf"))[:, :, None])
    gain = torch.where(live, gain, 1.0)
    if edits.freed is None:
        return gain
    rule, other = edits.freed[:, :, None, None], mass[..., :1]
    missing = ((1 - gain) * mass).sum(-1, keepdim=True)
    tiny = torch.finfo(mass.dtype).tiny
    share = torch.cat([(1 + missing / other.clamp_min(tiny)).clamp_min(0), gain.expand_as(mass)[..., 1:]], -1)
    others = torch.where(other > 0, share, 1.0)
    left = (gain * mass).sum(-1, keepdim=True)
    every = torch.where(left > 0, gain * (mass.sum(-1, keepdim=True) / left.clamp_min(tiny)), 1.0)
    return torch.where(rule == OTHERS, others, torch.where(rule == ALL, every, gain))


def replace_rows(
    p: Float[Tensor, "b h q k"],
    rows: RowPatterns,
    seen: Bool[Tensor, "#b 1 q k"],
    hold: Bool[Tensor, "#b 1 q 1"],
    queries: Int[Tensor, "#b q"],
    keys: slice,
) -> Float[Tensor, "b h q k"]:
    """The given rows in the place of those that the softmax gave; keys that the model hides get nothing."""
    here = queries[:, :, None] == rows.rows[:, None]  # [b, q, r]
    used = here.flatten(0, 1).any(0)
    if not bool(used.any()):
        return p
    at, weights = rows.keys[..., used, :] - keys.start, rows.weights[..., used, :].to(p.dtype)
    inside = (at >= 0) & (at < p.shape[-1])
    at, weights = torch.broadcast_tensors(torch.where(inside, at, 0), weights * inside)
    new = p.new_zeros(*at.shape[:-1], p.shape[-1]).scatter_add(-1, at, weights)
    heads = rows.heads if rows.heads.dim() == 3 else rows.heads[..., None]
    heads = heads.expand(*heads.shape[:2], len(used))[..., used]
    chosen = here[:, None, :, used] & heads[:, :, None] & hold
    replaced = torch.matmul(chosen.to(p.dtype), new[:, None]) * seen
    return torch.where(chosen.any(-1, keepdim=True), replaced, p)
