"""Any device, O(N) memory: stock flash attention for the output, a sweep over blocks of queries for statistics."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from workbench_kernels import augmented, cpu_flash, differentiable, gradients
from workbench_kernels.blocks import AWAY
from workbench_kernels.by_heads import by_heads
from workbench_kernels.cutting import held_range, select_queries, touched
from workbench_kernels.patterns import block, finish, pattern, phased, scores
from workbench_kernels.reducers import indicator
from workbench_kernels.reshaping import reshaped, small
from workbench_kernels.sweep import ROWS, SCRATCH, sweep
from workbench_kernels.types import AttentionSpec, Edits, HeadEdits, Reductions, Statistics, phases


def attend(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: Edits = None,
    reductions: Reductions | None = None,
) -> tuple[Float[Tensor, "b h q d"], Statistics]:
    """Output (differentiable once) and statistics (detached, unless reductions.grad: see `differentiable`).

    Gradients reach q, k, v, the learned sinks, and of the edits gain, class_gain, bias, boost, the weights of replaced
    rows and the replacement. Windows, key classes, uniform, least_mass (a step) and `freed` are constants. The backward
    pass computes the pattern again, block by block, in O(N) memory.
    """
    want, found, z = reductions or Reductions(), Statistics(), None
    grad = any(gradients.wanted(q, k, v, spec, e) for e in phases(edits) or (None,))
    carried = want.grad and torch.is_grad_enabled()
    if carried:
        found = differentiable.statistics(q, k, spec, edits, want)
    elif not grad and want.spans is not None and augmented.applies(q, k, spec, want) and not _reshape(edits):
        z, found.mass = augmented.with_masses(q, k, v, spec, want.spans)
    elif want.whole_rows:  # the pass over whole rows gives the output, too
        with torch.no_grad():
            z, found = sweep(q, k, None if grad else v, spec, edits, want)
    if z is None:
        z = _phased_output(q, k, v, spec, phases(edits))
    if not carried and want.rows is not None and (want.top_k or want.spans is not None):
        with torch.no_grad():
            add_chosen_rows(found, q.detach(), k.detach(), spec, edits, want)
    for edit in phases(edits):
        z = finish(z, edit)
    if want.norms:
        found.norms = norms(z, carried)
    return z, found


def norms(z: Float[Tensor, "b h q d"], grad: bool) -> Float[Tensor, "b h q"]:
    """‖z‖, in float32 at least."""
    return (z if grad else z.detach()).to(torch.promote_types(z.dtype, torch.float32)).norm(dim=-1)


def _reshape(edits: Edits) -> bool:
    return any(e.reshapes_pattern for e in phases(edits))


def _phased_output(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: tuple[HeadEdits, ...]) -> Tensor:
    z = _output(q, k, v, spec, edits[0] if edits else None)
    for more in edits[1:]:  # another phase: its query rows come from a pass of their own
        if more.reshapes_pattern:
            assert more.queries is not None
            z = torch.where(more.queries[:, None, :, None], _output(q, k, v, spec, more), z)
    return z


def _output(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits | None) -> Tensor:
    if edits is None or not edits.reshapes_pattern:
        return _plain(q, k, v, spec)
    n, flags, held = q.shape[2], touched(edits, len(q)), held_range(edits, q.shape[2])
    if held.start == held.stop or not bool(flags.any()):
        return _plain(q, k, v, spec)
    every = edits.queries is None or bool(edits.queries.all())
    part, edits = replace(spec, q_offset=spec.q_offset + held.start), select_queries(edits, held)
    stop = spec.keys(held.start, held.stop, k.shape[2]).stop  # nobody sees later keys
    if part.padding is not None:
        part = replace(part, padding=part.padding[:, :stop], first=spec.first_valid(len(q), q.device))
    some_k, some_v = k[:, :, :stop], v[:, :, :stop]
    if every and torch.equal(flags.any(0), flags.all(0)):
        if not small(q, some_k):
            return by_heads(q, some_k, some_v, part, edits, flags, _plain, _by_blocks)
        if bool(flags.all()):
            return _by_blocks(q, some_k, some_v, part, edits)
    z = _plain(q, k, v, spec)
    new = reshaped(z[:, :, held], q[:, :, held], some_k, some_v, part, edits, flags, _by_blocks)
    return new if held == slice(0, n) else torch.cat([z[:, :, : held.start], new, z[:, :, held.stop :]], 2)


def _plain(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
    """The unedited output: flash where its mask can be said, blocks of queries elsewhere."""
    n, m, past = q.shape[2], k.shape[2], spec.q_offset - spec.kv_offset
    if spec.softcap is None and spec.sink_logits is None:
        simple = spec.padding is None and spec.causal(n)
        if simple and past == 0 and n <= m:
            k, v = k[:, :, :n], v[:, :, :n]
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=spec.scale, enable_gqa=True)
        if simple and n == 1 and past >= m - 1:
            return cpu_flash.grouped(q, k, v, spec.scale)
        if not gradients.wanted(q, k, v, spec, None):  # autograd would keep every block's mask
            if cpu_flash.is_suffix(q, k, v, spec):
                return cpu_flash.of_suffix(q, k, v, spec)
            return torch.cat([_masked_flash(q, k, v, spec, i) for i in range(0, n, ROWS)], 2)
    return _by_blocks(q, k, v, spec, None)


def _masked_flash(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, start: int) -> Tensor:
    stop = min(q.shape[2], start + ROWS)
    keys = spec.keys(start, stop, k.shape[2])
    mask = spec.visible(block(start, stop, q.device), keys, q.shape[0])
    q, k, v = q[:, :, start:stop], k[:, :, keys], v[:, :, keys]
    if stop - start == 1:
        out = cpu_flash.grouped(q, k, v, spec.scale, mask)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=spec.scale, enable_gqa=True)
    return out.masked_fill(~mask.any(-1, keepdim=True), 0.0)  # a row that sees nothing is zero on every backend


def _by_blocks(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: HeadEdits | None) -> Tensor:
    """Pattern times values, block by block; the backward pass computes the pattern again."""
    whole = gradients.of_rows(*q.shape[:3], v.shape[-1], after=1)
    blocks, held = gradients.cuts(spec, ROWS, q.shape[2], k.shape[2]), () if edits is None else (edits,)
    return gradients.blockwise(_rows, [whole], blocks, q, k, v, spec, held)[0]


def _rows(
    rows: slice, keys: slice, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: tuple[HeadEdits, ...]
) -> tuple[Tensor]:
    p, _ = pattern(q, k, spec, edits[0] if edits else None, block(rows.start, rows.stop, q.device), keys)
    return (_weighted(p.to(v.dtype), v),)


def _weighted(p: Float[Tensor, "b h q k"], v: Float[Tensor, "b g k d"]) -> Float[Tensor, "b h q d"]:
    b, h, n, m = p.shape
    g = v.shape[1]
    return torch.matmul(p.reshape(b, g, h // g * n, m), v).reshape(b, h, n, v.shape[-1])


def add_chosen_rows(out: Statistics, q: Tensor, k: Tensor, spec: AttentionSpec, edits: Edits, want: Reductions) -> None:
    """Top keys and span masses of chosen queries: cost r·k, whatever the length of the text."""
    assert want.rows is not None
    b, h, _, d = q.shape
    m = k.shape[2]
    keys, at_once = slice(0, m), max(1, 8 * SCRATCH // max(1, b * h * m))
    inside = None if want.spans is None else indicator(want.spans.to(q.device), m, torch.float32)
    values, indices, mass = [], [], []
    for queries in want.rows.to(q.device).split(at_once, 1):
        part = q.gather(2, queries[:, None, :, None].expand(-1, h, -1, d))
        p = _chosen(part, k, spec, edits, queries, keys)
        if want.top_k:
            top = p.topk(min(want.top_k, m), -1)
            values.append(top.values)
            indices.append(top.indices)
        if inside is not None:
            mass.append(torch.matmul(p.float(), inside[:, None]))
    out.top_values, out.top_indices = (torch.cat(values, 2), torch.cat(indices, 2)) if values else (None, None)
    out.mass = torch.cat(mass, 2) if mass else None


def _chosen(q: Tensor, k: Tensor, spec: AttentionSpec, edits: Edits, queries: Tensor, keys: slice) -> Tensor:
    """The pattern of chosen queries, in half of the passes where it is a plain softmax."""
    if _reshape(edits) or spec.sink_logits is not None:
        return phased(q, k, spec, phases(edits), queries, keys)[0]
    seen = spec.visible(queries, keys, len(q))
    p = scores(q, k, spec).masked_fill_(~seen, AWAY).softmax(-1)
    return p.mul_(seen.any(-1, keepdim=True))  # nothing in a row that sees nothing
