"""Any device, O(N) memory: stock flash attention for the output, a sweep over blocks of queries for statistics."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from workbench_kernels.patterns import block, finish, pattern
from workbench_kernels.reducers import indicator
from workbench_kernels.sweep import SCRATCH, sweep
from workbench_kernels.types import AttentionSpec, HeadEdits, Reductions, Statistics

ROWS = 128
"""Queries in a block."""


def attend(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: HeadEdits | None = None,
    reductions: Reductions | None = None,
) -> tuple[Float[Tensor, "b h q d"], Statistics]:
    """Output (differentiable) and statistics (detached)."""
    want, found, z = reductions or Reductions(), Statistics(), None
    grad = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if want.whole_rows:  # the pass over whole rows gives the output, too
        with torch.no_grad():
            z, found = sweep(q, k, None if grad else v, spec, edits, want)
    if z is None:
        z = _output(q, k, v, spec, edits)
    with torch.no_grad():
        if want.rows is not None and (want.top_k or want.spans is not None):
            _add_chosen_rows(found, q.detach(), k.detach(), spec, edits, want)
    z = finish(z, edits)
    if want.norms:
        found.norms = z.detach().float().norm(dim=-1)
    return z, found


def _output(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits | None) -> Tensor:
    z = _plain(q, k, v, spec)
    return _reshaped(z, q, k, v, spec, edits) if edits is not None and edits.reshapes_pattern else z


def _plain(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
    """The unedited output: flash where its mask can be said, blocks of queries elsewhere."""
    n, m = q.shape[2], k.shape[2]
    if spec.softcap is None and spec.sink_logits is None:
        simple = spec.padding is None and spec.allowed is None
        if simple and n == m and spec.q_offset == spec.kv_offset:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=spec.scale, enable_gqa=True)
        if simple and n == 1 and spec.q_offset - spec.kv_offset >= m - 1:
            return F.scaled_dot_product_attention(q, k, v, scale=spec.scale, enable_gqa=True)
        return torch.cat([_masked_flash(q, k, v, spec, i) for i in range(0, n, ROWS)], 2)
    return _by_blocks(q, k, v, spec, None)


def _masked_flash(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, start: int) -> Tensor:
    stop = min(q.shape[2], start + ROWS)
    keys = spec.keys(start, stop, k.shape[2])
    mask = spec.visible(block(start, stop, q.device), keys, q.shape[0])
    out = F.scaled_dot_product_attention(
        q[:, :, start:stop], k[:, :, keys], v[:, :, keys], attn_mask=mask, scale=spec.scale, enable_gqa=True
    )
    return out.masked_fill(~mask.any(-1, keepdim=True), 0.0)  # a row that sees nothing is zero on every backend


def _by_blocks(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits | None) -> Tensor:
    """Pattern times values, block by block; the backward pass computes the pattern again."""

    def part(start: int) -> Tensor:
        stop = min(q.shape[2], start + ROWS)
        keys = spec.keys(start, stop, k.shape[2])
        queries = block(start, stop, q.device)
        p, _ = pattern(q[:, :, start:stop], k[:, :, keys], spec, edits, queries, keys)
        return _weighted(p.to(v.dtype), v[:, :, keys])

    grad = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    starts = range(0, q.shape[2], ROWS)
    parts = [checkpoint(part, i, use_reentrant=False) if grad else part(i) for i in starts]
    return torch.cat([x for x in parts if isinstance(x, Tensor)], 2)


def _weighted(p: Float[Tensor, "b h q k"], v: Float[Tensor, "b g k d"]) -> Float[Tensor, "b h q d"]:
    b, h, n, m = p.shape
    g = v.shape[1]
    return torch.matmul(p.reshape(b, g, h // g * n, m), v).reshape(b, h, n, v.shape[-1])


def _reshaped(z: Tensor, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits) -> Tensor:
    """Recompute the output of the heads whose pattern an edit changes; the others keep theirs."""
    b, h = q.shape[:2]
    flags = [f != 0 for f in (edits.uniform, edits.window) if f is not None]
    touched = torch.stack([f.expand(b, -1) for f in flags]).any(0)
    for head in touched.any(0).nonzero().flatten().tolist():
        rows = touched[:, head].nonzero().flatten()
        kv = head // (h // k.shape[1])
        part = (q[rows, head : head + 1], k[rows, kv : kv + 1], v[rows, kv : kv + 1])
        new = _by_blocks(*part, *_select(spec, edits, rows, head))
        z = z.index_put((rows, torch.full_like(rows, head)), new[:, 0].to(z.dtype))
    return z


def _select(spec: AttentionSpec, edits: HeadEdits, rows: Tensor, head: int) -> tuple[AttentionSpec, HeadEdits]:
    """The spec and the pattern edits of one head in chosen batch rows."""
    inner = spec.allowed

    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return inner(rows[b], h, i, j) if inner is not None else j <= i

    def cut(x: Tensor | None, columns: slice) -> Tensor | None:
        return x if x is None else x[:, columns] if x.shape[0] == 1 else x[rows][:, columns]

    one, every = slice(head, head + 1), slice(None)
    part = replace(
        spec,
        allowed=None if inner is None else allowed,
        padding=cut(spec.padding, every),
        first=None if spec.first is None else spec.first[rows],
        sink_logits=None if spec.sink_logits is None else spec.sink_logits[one],
    )
    shape = HeadEdits(uniform=cut(edits.uniform, one), window=cut(edits.window, one), sink=edits.sink)
    return part, replace(shape, queries=cut(edits.queries, every))


def _add_chosen_rows(
    out: Statistics, q: Tensor, k: Tensor, spec: AttentionSpec, edits: HeadEdits | None, want: Reductions
) -> None:
    """Top keys and span masses of chosen queries: cost r·k, whatever the length of the text."""
    assert want.rows is not None
    b, h, _, d = q.shape
    m = k.shape[2]
    keys, at_once = slice(0, m), max(1, 8 * SCRATCH // max(1, b * h * m))
    inside = None if want.spans is None else indicator(want.spans.to(q.device), m, torch.float32)
    values, indices, mass = [], [], []
    for queries in want.rows.to(q.device).split(at_once, 1):
        part = q.gather(2, queries[:, None, :, None].expand(-1, h, -1, d))
        p, _ = pattern(part, k, spec, edits, queries, keys)
        if want.top_k:
            top = p.topk(min(want.top_k, m), -1)
            values.append(top.values)
            indices.append(top.indices)
        if inside is not None:
            mass.append(torch.matmul(p.float(), inside[:, None]))
    out.top_values, out.top_indices = (torch.cat(values, 2), torch.cat(indices, 2)) if values else (None, None)
    out.mass = torch.cat(mass, 2) if mass else None
