"""Received attention: how much each key is looked at; large for attention sinks (α of ACT, arXiv 2406.15765)."""

from __future__ import annotations

from torch.nn.functional import pad
from workbench_kernels import Reductions

from workbench.probes.probe import Probe


def received(name: str = "received") -> Probe:
    """Mean attention of the valid queries that see a key, [layers, batch, heads, keys].

    A cached sliding layer gives NaN for keys that it has dropped.
    """
    return Probe(
        name,
        asks=lambda mask: Reductions(received=True),
        reads=lambda s, mask: {"": pad(s.received, (mask.kv_offset, 0), value=float("nan"))},  # pyright: ignore
        parts=True,
    )
