"""Log-sum-exp of the scores: with it any single weight is exp(score − lse)."""

from __future__ import annotations

from workbench_kernels import Reductions

from workbench.probes.probe import Probe


def lse(name: str = "lse") -> Probe:
    """Log-sum-exp of each query's scores, [layers, batch, heads, queries]; −inf where a row sees nothing."""
    return Probe(name, asks=lambda mask: Reductions(lse=True), reads=lambda s, mask: {"": s.lse}, joins=3, parts=True)  # pyright: ignore
