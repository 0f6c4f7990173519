"""One pass over blocks of queries: the output and every statistic of whole rows, exact, O(N) memory.

A block sees its whole rows, so nothing is corrected afterwards. Heads of one kv head at a time, on contiguous float32
tensors, in blocks small enough for their scores to stay in the cache (measured: beats all heads at once, and a second
pass). On a CPU several kv heads, or parts of their heads, at a time, each on a core of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from workbench_kernels import parallel
from workbench_kernels.blocks import Block, edited, plain, scratch, valid_queries
from workbench_kernels.by_row import Matched, Moments, Profile
from workbench_kernels.cutting import select_heads, touched
from workbench_kernels.profiles import Distance, Thumbnail
from workbench_kernels.reducers import AtOffset, Entropy, LogSumExp, Received, Reducer, TopKeys, indicator, zeros
from workbench_kernels.types import AttentionSpec, Edits, HeadEdits, Reductions, Statistics, phases

ROWS = 128
"""Most queries in a block."""
SCRATCH = 1 << 19
"""Scores in a block, all its heads together: 2 MiB in float32."""
FEWEST = 32
"""Fewest queries in a block: products of fewer rows are slow (8,192 keys, 4 heads: with 16 rows a tenth slower)."""


def sweep(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"] | None,
    spec: AttentionSpec,
    edits: Edits,
    want: Reductions,
) -> tuple[Float[Tensor, "b h q d"] | None, Statistics]:
    """Statistics of the edited pattern, and the output of the edited pattern where v is given (not differentiable)."""
    parts, out, inside = _reducers(q, k, spec, want), Statistics(), None
    z = None if v is None else torch.empty_like(q, memory_format=torch.contiguous_format)
    if want.rows is None and want.spans is not None:
        inside = indicator(want.spans.to(q.device), k.shape[2], torch.float32)
        out.mass = zeros(q, *q.shape[1:3], inside.shape[-1])

    def some(heads: slice) -> None:
        values = _values(v, heads.start * k.shape[1] // q.shape[1], inside)
        for block in _blocks(q, k, spec, edits, want, heads):
            rows = slice(block.start, block.stop)
            made = None if values is None else block.times(values[:, block.keys])
            if z is not None and made is not None:
                z[:, heads, rows] = made[..., : z.shape[-1]].to(z.dtype)
            if out.mass is not None and made is not None:
                out.mass[:, heads, rows] = made[..., made.shape[-1] - out.mass.shape[-1] :]
            for part in parts:
                part.add(block)

    parallel.run([lambda heads=heads: some(heads) for heads in _portions(q, k)], q.device)
    for part in parts:
        part.finish(out)
    return z, out


def _values(v: Tensor | None, kv: int, inside: Tensor | None) -> Float[Tensor, "b k e"] | None:
    """What the pattern is multiplied by: values, and spans, whose masses ride along."""
    columns = [] if v is None else [v[:, kv].float()]
    columns += [] if inside is None else [inside]
    return torch.cat(columns, -1) if columns else None


def _portions(q: Tensor, k: Tensor) -> list[slice]:
    """Heads that are done together: those of a kv head, or equal parts of them where cores would be left idle."""
    (h, g), cores = (q.shape[1], k.shape[1]), parallel.workers(q.device)
    sizes = [s for s in range(h // g, 0, -1) if (h // g) % s == 0]
    size = next((s for s in sizes if (h // s) % cores == 0 or h // s >= 4 * cores), 1)
    return [slice(first, first + size) for first in range(0, h, size)]


def _blocks(q: Tensor, k: Tensor, spec: AttentionSpec, edits: Edits, want: Reductions, heads: slice) -> Iterator[Block]:
    """The blocks of some heads of one kv head; each is gone when the next one comes."""
    (b, _, n, _), m = q.shape, k.shape[2]
    at_once = b * (heads.stop - heads.start)
    rows = min(n, max(FEWEST, min(ROWS, SCRATCH // max(1, at_once * m))))
    keys = k[:, heads.start * k.shape[1] // q.shape[1]].float().contiguous()
    part = replace(spec, sink_logits=None if spec.sink_logits is None else spec.sink_logits[heads])
    cuts, valid = _reshaping(edits, heads, b), valid_queries(spec, n, m, q.device)
    room = None if cuts else scratch(at_once * rows * m, q.device)
    for start in range(0, n, rows):
        here = slice(start, min(n, start + rows))
        if room is None:
            yield edited(q[:, heads], keys, part, cuts, heads, here, valid)
        else:
            yield plain(q[:, heads], keys, part, heads, here, valid, room, want)


def _reshaping(edits: Edits, heads: slice, batch: int) -> list[HeadEdits]:
    """The edits of the pattern of these heads; none where there are none: the plain way is quicker."""
    cuts = [select_heads(e, heads) for e in phases(edits) if e.reshapes_pattern]
    return [cut for cut in cuts if bool(touched(cut, batch).any())]


def _reducers(q: Tensor, k: Tensor, spec: AttentionSpec, want: Reductions) -> list[Reducer]:
    """Those that a request needs; span masses are no reducer, they are made as the output is."""
    out: list[Reducer] = []
    if want.lse or want.sink_mass:
        out.append(LogSumExp(q, spec, want))
    if want.received:
        out.append(Received(q, k, spec))
    if want.offsets:
        out.append(AtOffset(q, spec, want))
    if want.entropy:
        out.append(Entropy(q))
    if want.distance:
        out.append(Distance(q, spec))
    if want.profile:
        out.append(Profile(q, spec))
    if want.moments:
        out.append(Moments(q, spec))
    if want.matches is not None:
        out.append(Matched(q, spec, want.matches))
    if want.thumbnail:
        out.append(Thumbnail(q, k, spec, want.thumbnail))
    if want.rows is None and want.top_k:
        out.append(TopKeys(q, k, want))
    return out
