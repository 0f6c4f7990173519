"""Edits on whole N×N patterns, written from their definitions in float64 and sharing no code with the kernels.

The fused ways can be checked against them (`backend="hooks"`). Slow and large on purpose.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from workbench_kernels import AttentionSpec, HeadEdits
from workbench_kernels.types import ALL, OTHERS

Pattern = Float[Tensor, "b h q k"]
Seen = Bool[Tensor, "b 1 q k"]


def holding(edits: HeadEdits, like: Tensor) -> Bool[Tensor, "#b 1 q 1"]:
    """The queries that the edits hold in."""
    if edits.queries is None:
        return torch.ones(1, 1, like.shape[2], 1, dtype=torch.bool, device=like.device)
    return edits.queries[:, None, :, None]


def narrowed(seen: Seen, edits: HeadEdits, spec: AttentionSpec) -> Bool[Tensor, "b #h q k"]:
    """What heads with a window of their own see of what the model shows them."""
    if edits.window is None:
        return seen
    b, _, n, m = seen.shape
    query = torch.arange(n, device=seen.device)[:, None] + spec.q_offset
    key = torch.arange(m, device=seen.device)[None] + spec.kv_offset
    first, window = spec.first_valid(b, seen.device)[:, None, None, None], edits.window[:, :, None, None]
    hidden = (query - key >= window) & (key >= first + edits.sink) & (window > 0)
    return seen & ~(hidden & holding(edits, seen))


def _member(edits: HeadEdits, number: int, m: int) -> Bool[Tensor, "#b #h 1 k"]:
    assert edits.key_class is not None
    return (edits.key_class[..., :m] == number)[:, :, None]


def edit_scores(s: Pattern, seen: Seen, edits: HeadEdits, spec: AttentionSpec) -> Pattern:
    """s + boost·|s| + bias of the key's class; minus infinity where a window hides the key."""
    new = s.clone()
    for name in ("boost", "bias"):
        table: Tensor | None = getattr(edits, name)
        if table is None:
            continue
        for c in range(table.shape[-1]):
            add = table[..., c].double()[:, :, None, None] * (s.abs() if name == "boost" else 1)
            new = torch.where(_member(edits, c + 1, s.shape[-1]) & holding(edits, s) & seen, new + add, new)
    return new.masked_fill(seen & ~narrowed(seen, edits, spec), float("-inf"))


def log_sum_exp(s: Pattern, spec: AttentionSpec) -> Float[Tensor, "b h q"]:
    """Of each row, a learned sink included."""
    lse = s.logsumexp(-1)
    return lse if spec.sink_logits is None else torch.logaddexp(lse, spec.sink_logits.to(lse)[None, :, None])


def reweighed(p: Pattern, before: Pattern, after: Pattern, spec: AttentionSpec) -> Pattern:
    """A pattern that is no longer the softmax of its scores, under a change of these scores.

    A row keeps its sum, together with the share that a learned sink has of it; rows without a change keep every bit.
    """
    change = torch.where(before == after, 0.0, after - before)
    share = 0.0
    if spec.sink_logits is not None:  # not as 1 − Σp, which would cancel where the share is small
        share = (spec.sink_logits.to(before)[None, :, None] - log_sum_exp(before, spec)).exp()[..., None]
    weighed = p * change.exp()
    total = weighed.sum(-1, keepdim=True) + share
    new = weighed * ((p.sum(-1, keepdim=True) + share) / _or_one(total))
    return torch.where((change != 0).any(-1, keepdim=True), new, p)


def edit_pattern(p: Pattern, seen: Seen, edits: HeadEdits, spec: AttentionSpec) -> Pattern:
    """What happens behind the softmax: rows replaced, class gains, even attention."""
    p = _replaced(p, seen, edits)
    if edits.class_gain is not None:
        p = _weighed(p, edits)
    if edits.uniform is not None:
        visible = narrowed(seen, edits, spec).double()
        even = visible / visible.sum(-1, keepdim=True).clamp_min(1)
        p = torch.where(edits.uniform[:, :, None, None] & holding(edits, p), even, p)
    return p


def _replaced(p: Pattern, seen: Seen, edits: HeadEdits) -> Pattern:
    rows = edits.rows
    if rows is None:
        return p
    new, hold = p.clone(), holding(edits, p).expand(len(p), 1, -1, 1)
    for b in range(len(p)):
        at, heads, keys, weights = (x[b if len(x) > 1 else 0] for x in (rows.rows, rows.heads, rows.keys, rows.weights))
        for r, query in enumerate(at.tolist()):
            if not 0 <= query < p.shape[2] or not bool(hold[b, 0, query]):
                continue
            line = torch.zeros(p.shape[-1], dtype=p.dtype, device=p.device)
            for key, weight in zip(keys[r].tolist(), weights[r].tolist(), strict=True):
                line[key] += weight if 0 <= key < len(line) else 0.0
            for head in (heads if heads.dim() == 1 else heads[:, r]).nonzero().flatten().tolist():
                new[b, head, query] = line * seen[b, 0, query]
    return new


def _weighed(p: Pattern, edits: HeadEdits) -> Pattern:
    """Classes times their gains; then what the rule of the head says of the rest."""
    assert edits.class_gain is not None
    new, hold, m = p.clone(), holding(edits, p), p.shape[-1]
    for c in range(edits.class_gain.shape[-1]):
        member = _member(edits, c + 1, m)
        mass = (p * member).sum(-1, keepdim=True)
        least = 0.0 if edits.least_mass is None else edits.least_mass[..., c].double()[:, :, None, None]
        gain = edits.class_gain[..., c].double()[:, :, None, None]
        new = torch.where(member & hold & (mass > least), p * gain, new)
    if edits.freed is None:
        return new
    others, rule = _member(edits, 0, m), edits.freed[:, :, None, None]
    before, after = p.sum(-1, keepdim=True), new.sum(-1, keepdim=True)
    have = (p * others).sum(-1, keepdim=True)
    given = torch.where(others, new * ((have + before - after) / _or_one(have)).clamp_min(0), new)
    given = torch.where(have > 0, given, p)
    scaled = torch.where(after > 0, new * before / _or_one(after), p)
    return torch.where(hold & (rule == OTHERS), given, torch.where(hold & (rule == ALL), scaled, new))


def _or_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0)


def edit_output(z: Float[Tensor, "b h q d"], edits: HeadEdits) -> Float[Tensor, "b h q d"]:
    """Gain, then replacement."""
    new = z if edits.gain is None else z * edits.gain[:, :, None, None].to(z)
    if edits.replace is not None and edits.replacement is not None:
        new = torch.where(edits.replace[:, :, None, None], edits.replacement.to(z), new)
    return torch.where(holding(edits, z), new, z)
