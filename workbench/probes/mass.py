"""Mass on spans: how much of each row's attention lies on a needle, an image, a sink."""

from __future__ import annotations

from workbench_kernels import Reductions

from workbench.positions import Rows, Spans, rows_index, spans_index
from workbench.probes.probe import Probe
from workbench.probes.reduce import Over, Reduce, checked, mean


def mass(
    spans: Spans, rows: Rows = None, reduce: Reduce = None, over: Over = "rows", name: str = "mass"
) -> Probe:  # fmt: skip
    """Attention of chosen rows (default: all) on key spans (start, end), [layers, batch, heads, rows, spans].

    spans: pairs, the same for all batch rows or a list of them per batch row. rows: as in `top_keys`.
    """
    checked(reduce, over)
    return Probe(
        name,
        asks=lambda mask: Reductions(rows=rows_index(rows, mask), spans=spans_index(spans, mask)),
        reads=lambda s, mask: {"": mean(s.mass, mask, reduce, over, chosen=rows is not None)},  # pyright: ignore
        joins=3 if reduce is None else None,
        parts=reduce is None or over == "rows",
        leaves=float(reduce is None),
    )
