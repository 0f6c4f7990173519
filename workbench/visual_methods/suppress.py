"""AD-HH: heads that drive hallucination lose the text behind the picture where they look at little else."""

from __future__ import annotations

from workbench.interventions import Edit, suppress
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.scores import CONTRAST, best, contrast

ABOVE = 0.4
"""Mass on the text behind the picture from which its weights are zeroed."""


def edits(asked: Asked) -> Edit:
    """The strength is the number of heads: those of highest causal contrast, of positive ones alone."""
    heads = best(contrast(asked), round(asked.strength), above=0.0)
    return suppress(heads, asked.pictures.behind, 0.0, ABOVE, at="decode", later=True)


METHOD = VisualMethod(
    name="suppress",
    help="AD-HH: heads that drive hallucination lose the text behind the picture where it has 0.4 of their weight",
    source="Yang et al., ICLR 2025 (Hallucination-Attribution)",
    strengths=(1, 2, 4, 6, 8, 12, 20),
    neutral=0,
    edits=edits,
    published=20,
    needs=(CONTRAST,),
    heads=True,
)
