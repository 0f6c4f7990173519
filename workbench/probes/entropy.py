"""Entropy of attention rows: 0 for one key, log of their number for even attention."""

from __future__ import annotations

from workbench_kernels import Reductions

from workbench.probes.probe import Probe
from workbench.probes.reduce import Over, Reduce, checked, mean


def entropy(reduce: Reduce = None, over: Over = "rows", name: str = "entropy") -> Probe:
    """Entropy of each row in nats, [layers, batch, heads, queries]; a learned sink's share is not in the sum."""
    checked(reduce, over)
    return Probe(
        name,
        asks=lambda mask: Reductions(entropy=True),
        reads=lambda s, mask: {"": mean(s.entropy, mask, reduce, over)},  # pyright: ignore
        joins=3 if reduce is None else None,
        parts=reduce is None or over == "rows",
        leaves=float(reduce is None),
    )
