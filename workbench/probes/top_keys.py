"""Top keys: where each row looks most."""

from __future__ import annotations

from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.errors import BadInput
from workbench.masks import CompactMask
from workbench.positions import Rows, rows_index
from workbench.probes.probe import Probe, TopKeys


def top_keys(k: int, rows: Rows = None, name: str = "top_keys") -> Probe:
    """The k largest weights of chosen rows (default: all), a pair of values and indices.

    rows: columns of the tokens, the same for all batch rows or a list per batch row; negative from the last token.
    """
    if k < 1:
        raise BadInput(f"top_keys({k}): give at least one key")

    def read(s: Statistics, mask: CompactMask) -> dict[str, Tensor]:
        assert s.top_values is not None and s.top_indices is not None
        return {"values": s.top_values, "indices": s.top_indices + mask.kv_offset}

    def gather(found: object) -> TopKeys:
        return TopKeys(found["values"], found["indices"].long())  # pyright: ignore

    return Probe(
        name,
        asks=lambda mask: Reductions(rows=rows_index(rows, mask), top_k=k),
        reads=read,
        gathers=gather,
        joins=3,
        parts=True,
    )
