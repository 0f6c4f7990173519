"""Distance profile: how far back a head looks."""

from __future__ import annotations

from workbench_kernels import Reductions

from workbench.probes.probe import Probe


def distance(name: str = "distance") -> Probe:
    """Mean mass by distance in tokens, bins 0, 1, 2–3, 4–7, …, [layers, batch, heads, bins]; sums to one."""
    return Probe(name, asks=lambda mask: Reductions(distance=True), reads=lambda s, mask: {"": s.distance}, parts=True)  # pyright: ignore
