"""Amplification with a strength of each head's own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from workbench.interventions import Intervention, pai
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.scores import shares


def modulated(asked: Asked, values: Float[np.ndarray, "layers heads"]) -> Intervention:
    """α_h = strength · f(value): f is monotone with mean one over the layers' heads, so equal strengths are equal sums."""
    share = shares(values)
    alphas: dict[float, list[tuple[int, int]]] = {}
    for at in asked.heads:
        if not np.isnan(share[at]):
            alphas.setdefault(float(share[at]) * asked.strength, []).append(at)
    return Intervention(tuple(pai(heads, asked.pictures.picture, a, at="decode") for a, heads in alphas.items()))
