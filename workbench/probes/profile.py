"""Distance profile of every row: how far back each query looks."""

from __future__ import annotations

from workbench_kernels import Reductions

from workbench.probes.probe import Probe


def profile(name: str = "profile") -> Probe:
    """Mass of each row by distance in tokens, bins 0, 1, 2–3, 4–7, …, [layers, batch, heads, queries, bins].

    `distance` is its mean over the queries of the text.
    """
    return Probe(
        name,
        asks=lambda mask: Reductions(profile=True),
        reads=lambda s, mask: {"": s.profile},  # pyright: ignore
        no_grad="it is made of differences of a running sum",
        parts=True,
    )
