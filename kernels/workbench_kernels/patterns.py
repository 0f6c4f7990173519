"""The attention pattern of chosen queries, as edited: the piece that every O(N) computation is made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench_kernels.class_edits import edit_classes, edit_scores, replace_rows
from workbench_kernels.types import AttentionSpec, HeadEdits


def block(start: int, stop: int, device: torch.device) -> Int[Tensor, "1 q"]:
    """The queries start…stop as indices."""
    return torch.arange(start, stop, device=device)[None]


def visible(
    spec: AttentionSpec, edits: HeadEdits | None, batch: int, queries: Int[Tensor, "#b q"], keys: slice
) -> Bool[Tensor, "#b #h q k"]:
    """Which keys each head sees: the model's mask and the heads' own windows."""
    mask = spec.visible(queries, keys, batch)
    if edits is None or edits.window is None:
        return mask
    q = queries[:, None, :, None] + spec.q_offset
    k = torch.arange(keys.start, keys.stop, device=queries.device) + spec.kv_offset
    first = spec.first_valid(batch, queries.device)[:, None, None, None]
    window = edits.window[:, :, None, None]
    near = (q - k < window) | (k < first + edits.sink) | (window == 0)
    return mask & (near | ~held(edits, queries))


def held(edits: HeadEdits, queries: Int[Tensor, "#b q"]) -> Bool[Tensor, "#b 1 q 1"]:
    """Which of the chosen queries the edits hold in."""
    if edits.queries is None:
        return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=queries.device)
    rows = max(edits.queries.shape[0], queries.shape[0])
    flags, index = edits.queries.expand(rows, -1), queries.expand(rows, -1)
    return flags.gather(1, index)[:, None, :, None]


def scores(q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], spec: AttentionSpec) -> Float[Tensor, "b h q k"]:
    """Scaled, soft-capped scores in at least float32, before any mask."""
    b, h, n, d = q.shape
    g = k.shape[1]
    s = torch.matmul(q.reshape(b, g, h // g * n, d), k.mT).reshape(b, h, n, k.shape[2])
    s = s.to(torch.promote_types(s.dtype, torch.float32)) * spec.scale
    return s if spec.softcap is None else torch.tanh(s / spec.softcap) * spec.softcap


def pattern(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: HeadEdits | None,
    queries: Int[Tensor, "#b q"],
    keys: slice,
) -> tuple[Float[Tensor, "b h q k"], Float[Tensor, "b h q"]]:
    """Pattern and log-sum-exp of chosen queries (already cut out of q) over a slice of keys (cut out of k).

    Rows that see no key are zero, with a log-sum-exp of minus infinity. A learned sink takes its share of the row.
    """
    mask, s = visible(spec, edits, q.shape[0], queries, keys), scores(q, k, spec)
    if edits is not None:
        s = edit_scores(s, edits, held(edits, queries), keys)
    s = s.masked_fill(~mask, float("-inf"))
    lse = s.logsumexp(-1)
    if spec.sink_logits is not None:
        lse = torch.logaddexp(lse, spec.sink_logits.to(lse.dtype)[None, :, None].expand_as(lse))
    p = (s - lse[..., None].masked_fill(lse[..., None] == float("-inf"), 0.0)).exp()
    return (p if edits is None else edit_weights(p, spec, edits, mask, queries, keys)), lse


def phased(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: Sequence[HeadEdits],
    queries: Int[Tensor, "#b q"],
    keys: slice,
) -> tuple[Float[Tensor, "b h q k"], Float[Tensor, "b h q"]]:
    """`pattern` where each of some edits holds in queries of its own; those that hold in none of these cost nothing."""
    live = edits if len(edits) == 1 else [e for e in edits if bool(held(e, queries).any())]
    p, lse = pattern(q, k, spec, live[0] if live else None, queries, keys)
    for other in live[1:]:
        hold = held(other, queries)
        more, more_lse = pattern(q, k, spec, other, queries, keys)
        p, lse = torch.where(hold, more, p), torch.where(hold[..., 0], more_lse, lse)
    return p, lse


def edit_weights(
    p: Float[Tensor, "b h q k"],
    spec: AttentionSpec,
    edits: HeadEdits,
    mask: Bool[Tensor, "#b #h q k"],
    queries: Int[Tensor, "#b q"],
    keys: slice,
) -> Float[Tensor, "b h q k"]:
    """What is done to the pattern after the softmax: rows replaced, class gains, even attention. mask: `visible`."""
    hold = held(edits, queries)
    if edits.rows is not None:
        p = replace_rows(p, edits.rows, spec.visible(queries, keys, len(p)), hold, queries, keys)
    p = edit_classes(p, edits, hold, keys)
    if edits.uniform is not None:
        even = mask.to(p.dtype) / mask.sum(-1, keepdim=True).clamp_min(1)
        p = torch.where(edits.uniform[:, :, None, None] & hold, even, p)
    return p


def finish(z: Float[Tensor, "b h q d"], edits: HeadEdits | None) -> Float[Tensor, "b h q d"]:
    """Output gain, then output replacement, in the queries that the edits hold in; z itself where autograd is off."""
    if edits is None:
        return z
    rows = held(edits, block(0, z.shape[2], z.device))
    if edits.gain is not None:
        gain = edits.gain.to(z.dtype)[:, :, None, None]
        if edits.queries is not None:
            z = torch.where(rows, z * gain, z)
        else:
            z = z * gain if torch.is_grad_enabled() else z.mul_(gain)
    if edits.replace is not None and edits.replacement is not None:
        z = torch.where(edits.replace[:, :, None, None] & rows, edits.replacement.to(z.dtype), z)
    return z
