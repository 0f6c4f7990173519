"""PAI: scores of the picture's parts are raised by a part of their size before the softmax, in all heads alike."""

from __future__ import annotations

from workbench.interventions import Edit, pai
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.asked import Asked

WITHIN = ((0.0625, 1.0),)
"""Layers 2 to 31 of 32."""
STRENGTHS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def edits(asked: Asked) -> Edit:
    """The strength is α."""
    return pai(asked.heads, asked.pictures.picture, asked.strength, at="decode")


METHOD = VisualMethod(
    name="amplify",
    help="PAI: scores a of the picture's parts become a + α·|a| before the softmax",
    source="Liu et al. 2024, arXiv 2407.21771",
    strengths=STRENGTHS,
    neutral=0.0,
    edits=edits,
    published=0.5,
    within=WITHIN,
    left_out="the contrast with a run that sees no picture, which the paper takes from the logits beside this",
)
