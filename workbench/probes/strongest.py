"""Strongest: the largest single weights in a part of the pattern, with their queries and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.errors import BadInput
from workbench.looking import Seen
from workbench.masks import CompactMask
from workbench.positions import rows_index, spans_index
from workbench.probes.probe import Probe


class Strongest(NamedTuple):
    """Weights, largest first, and the columns of their queries and keys (-1, with weight 0: no more)."""

    weights: Float[Tensor, "layers b h k"]
    queries: Int[Tensor, "layers b h k"]
    keys: Int[Tensor, "layers b h k"]


def strongest(
    queries: tuple[int, int], keys: tuple[int, int], k: int = 10, heads: Sequence[int] | None = None,
    name: str = "strongest",
) -> Probe:  # fmt: skip
    """The k largest weights between columns (start, stop) of the tokens, exactly: what a zoom lists beside its picture.

    heads: which to keep (default: all). Keys outside are hidden from the probe, so it looks at whole texts only, and not at
    a model under edits. Raises BadInput for a part outside the text, padding included.
    """
    if k < 1 or queries[0] >= queries[1] or keys[0] >= keys[1]:
        raise BadInput(f"strongest({queries}, {keys}, k={k}): give (start, stop) with start < stop, and k of 1 or more")
    each = min(k, keys[1] - keys[0])  # the k largest of all are among the k largest of each row

    def hides(seen: Seen) -> Bool[Tensor, "b 1 k"]:
        column = torch.arange(seen.mask.keys, device=seen.mask.device) + seen.mask.kv_offset
        return ((column < keys[0]) | (column >= keys[1])).expand(seen.mask.batch, 1, -1)

    def asks(mask: CompactMask) -> Reductions:
        spans_index([keys], mask)
        return Reductions(rows=rows_index(list(range(*queries)), mask), top_k=each)

    def read(s: Statistics, mask: CompactMask) -> dict[str, Tensor]:
        assert s.top_values is not None and s.top_indices is not None
        w, at = ((x if heads is None else x[:, list(heads)]).flatten(2) for x in (s.top_values, s.top_indices))
        best = w.topk(min(k, w.shape[-1]), -1)
        none = best.values <= 0
        read_by, read = queries[0] + best.indices // each, at.gather(-1, best.indices) + mask.kv_offset
        return {"": best.values, "queries": read_by.masked_fill(none, -1), "keys": read.masked_fill(none, -1)}

    def gather(found: object) -> Strongest:
        return Strongest(found[""], found["queries"].long(), found["keys"].long())  # pyright: ignore

    return Probe(
        name,
        asks=asks,
        reads=read,
        hides=hides,
        gathers=gather,
        parts=True,
        leaves=min(1.0, 2 * k / (each * (queries[1] - queries[0]))),
    )
