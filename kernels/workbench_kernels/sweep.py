"""One pass over blocks of queries: the output and every statistic of whole rows, exact, O(N) memory.

A block sees its whole rows, so nothing is corrected afterwards. One kv head at a time, on contiguous float32 tensors, in
blocks small enough for their scores to stay in the cache (measured: beats all heads at once, and a second pass).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench_kernels.cutting import select_heads, touched
from workbench_kernels.patterns import block, phased, plain_block
from workbench_kernels.reducers import Block, reducers
from workbench_kernels.types import AttentionSpec, Edits, HeadEdits, Reductions, Statistics, phases

ROWS = 128
"""Most queries in a block."""
SCRATCH = 1 << 19
"""Scores in a block, all heads of a kv head together: 2 MiB in float32."""
FEWEST = 32
"""Fewest queries in a block: products of 16 rows leave a second core idle (8,192 keys: 3.3 against 2.1 times SDPA)."""


def sweep(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"] | None,
    spec: AttentionSpec,
    edits: Edits,
    want: Reductions,
) -> tuple[Float[Tensor, "b h q d"] | None, Statistics]:
    """Statistics of the edited pattern, and the output of the edited pattern where v is given (not differentiable)."""
    b, h, n, _ = q.shape
    g, m = k.shape[1:3]
    group = h // g
    rows = max(FEWEST, min(ROWS, SCRATCH // max(1, b * m * group)))
    parts = reducers(q, k, spec, want)
    z = None if v is None else torch.empty_like(q, memory_format=torch.contiguous_format)
    for first in range(g):
        heads = slice(first * group, (first + 1) * group)
        keys32 = k[:, first : first + 1].float().contiguous()
        values = None if v is None else v[:, first : first + 1].float().contiguous()
        part = replace(spec, sink_logits=None if spec.sink_logits is None else spec.sink_logits[heads])
        cut = _reshaping(edits, heads, b)
        for start in range(0, n, rows):
            piece = _block(q[:, heads], keys32, part, cut, start, min(n, start + rows), heads)
            if z is not None and values is not None:
                z[:, heads, start : piece.stop] = piece.times(values[:, :, piece.keys]).to(z.dtype)
            for reducer in parts:
                reducer.add(piece)
    out = Statistics()
    for reducer in parts:
        reducer.finish(out)
    return z, out


def _reshaping(edits: Edits, heads: slice, batch: int) -> list[HeadEdits]:
    """The edits of the pattern of these heads; none where there are none: the plain way is quicker."""
    cuts = [select_heads(e, heads) for e in phases(edits) if e.reshapes_pattern]
    return [cut for cut in cuts if bool(touched(cut, batch).any())]


def _block(
    q: Tensor, k: Tensor, spec: AttentionSpec, edits: Sequence[HeadEdits], start: int, stop: int, heads: slice
) -> Block:
    """Weights of one block; unnormalised where nothing needs them normalised, which saves a pass over them."""
    b, m = q.shape[0], k.shape[2]
    keys, queries = spec.keys(start, stop, m), block(start, stop, q.device)
    valid = valid_queries(spec, queries, b)
    scores_of, part = q[:, :, start:stop].float(), k[:, :, keys]
    if edits:
        w, lse = phased(scores_of, part, spec, edits, queries, keys)
        total = None
    else:
        w, total, lse = plain_block(scores_of, part, spec, queries, keys)
    return Block(heads, start, stop, keys, w, total, lse, valid, scores_of, part)


def valid_queries(spec: AttentionSpec, queries: Tensor, batch: int) -> Bool[Tensor, "b q"] | None:
    """Queries of the text: those whose own key is not padding; None where all are."""
    if spec.padding is None:
        return None
    own = queries[0] + spec.q_offset - spec.kv_offset
    return spec.padding.to(queries.device)[:, own].expand(batch, -1)
