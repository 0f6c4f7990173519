"""Region: a part of the pattern in finer blocks, made again from queries and keys; what a zoom asks for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.errors import BadInput
from workbench.masks import CompactMask
from workbench.positions import rows_index, spans_index
from workbench.probes.probe import Probe


def region(
    queries: tuple[int, int], keys: tuple[int, int], n: int = 64, heads: Sequence[int] | None = None, name: str = "region"
) -> Probe:  # fmt: skip
    """Columns (start, stop) of the tokens in at most n × n blocks, [layers, batch, heads, rows, columns].

    Each number is the mean over a block's queries of the mass on its keys, as in `thumbnail`; a block is
    ceil((stop - start) / n) tokens wide, the last one may be narrower. heads: which to keep (default: all).
    Raises BadInput for a region outside the text, padding included.
    """
    if n < 1 or queries[0] >= queries[1] or keys[0] >= keys[1]:
        raise BadInput(
            f"region({queries}, {keys}, n={n}): give (start, stop) pairs with start < stop, and n of 1 or more"
        )
    spans = blocks(keys, n)
    tall = -(-(queries[1] - queries[0]) // n)

    def asks(mask: CompactMask) -> Reductions:
        return Reductions(rows=rows_index(list(range(*queries)), mask), spans=spans_index(spans, mask))

    def read(s: Statistics, mask: CompactMask) -> dict[str, Tensor]:
        assert s.mass is not None
        kept = s.mass if heads is None else s.mass[:, list(heads)]
        return {"": torch.stack([part.mean(2) for part in kept.split(tall, 2)], 2)}

    return Probe(name, asks=asks, reads=read, parts=True, leaves=1 / tall)


def blocks(extent: tuple[int, int], n: int) -> list[tuple[int, int]]:
    """(start, stop) of at most n blocks of equal width over an extent."""
    start, stop = extent
    size = -(-(stop - start) // n)
    return [(i, min(i + size, stop)) for i in range(start, stop, size)]
