"""The share of each row that a learned sink logit takes (gpt-oss)."""

from __future__ import annotations

from workbench_kernels import Reductions

from workbench.probes.probe import Probe


def sink_mass(name: str = "sink_mass") -> Probe:
    """Share of the learned sink in each row, [layers, batch, heads, queries]; NaN in layers without one."""
    return Probe(
        name,
        asks=lambda mask: Reductions(sink_mass=True),
        reads=lambda s, mask: {"": s.sink_mass},  # pyright: ignore
        joins=3,
        parts=True,
    )
