"""SPIN: the heads of each layer that look least at the picture count less."""

from __future__ import annotations

from workbench.interventions import Edit, route
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.scores import IMAGE_MASS, best, best_of_layers

KEPT = 0.95
"""Share of a layer's heads that are left alone (rounded down, as published)."""


def edits(asked: Asked) -> Edit:
    """The strength is what the outputs of the other heads lose: 1 − α."""
    kept, values = int(KEPT * asked.pictures.model.n_heads), asked.score(IMAGE_MASS)
    anywhere = asked.control == "anywhere"  # as many of all layers together: a layer may lose several heads
    heads = best(values, kept * len(asked.layers)) if anywhere else best_of_layers(values, kept)
    return route(heads, 1 - asked.strength, asked.layers, at="decode")


METHOD = VisualMethod(
    name="route",
    help="SPIN: the twentieth of each layer's heads (at least one) that looks least at the picture is scaled down",
    source="Sarkar et al. 2025, arXiv 2505.16411",
    strengths=(0.2, 0.4, 0.6, 0.8, 0.92, 1.0),
    neutral=0.0,
    edits=edits,
    published=0.92,
    needs=(IMAGE_MASS,),
    heads=True,
    left_out="the published code chooses the heads anew for each token; here the mean image mass of the score set chooses",
)
