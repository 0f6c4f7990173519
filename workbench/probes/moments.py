"""Moments of the distance: how far back a query looks on average, and how much that varies within its row."""

from __future__ import annotations

from workbench_kernels import Reductions

from workbench.probes.probe import Probe


def moments(name: str = "moments") -> Probe:
    """Σ p·d and Σ p·d² of each row, d in tokens back, [layers, batch, heads, queries, 2]. HeadVis' QK distance.

    Its variance over many rows is mean(Σ p·d²) − mean(Σ p·d)².
    """
    return Probe(
        name,
        asks=lambda mask: Reductions(moments=True),
        reads=lambda s, mask: {"": s.moments},  # pyright: ignore
        joins=3,
        parts=True,
        no_grad="it is kept apart from autograd",
    )
