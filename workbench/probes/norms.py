"""Norms of head outputs: how much a head says at all."""

from __future__ import annotations

from workbench_kernels import Reductions

from workbench.probes.probe import Probe
from workbench.probes.reduce import Over, Reduce, checked, mean


def norms(reduce: Reduce = None, over: Over = "rows", name: str = "norms") -> Probe:
    """‖z‖ of each head and query, before the output projection, as edited: [layers, batch, heads, queries]."""
    checked(reduce, over)
    return Probe(
        name,
        asks=lambda mask: Reductions(norms=True),
        reads=lambda s, mask: {"": mean(s.norms, mask, reduce, over)},  # pyright: ignore
        joins=3 if reduce is None else None,
        parts=reduce is None or over == "rows",
        leaves=float(reduce is None),
    )
