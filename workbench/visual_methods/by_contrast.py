"""Head-specific amplification: as PAI, each head by its causal contrast, those that drive hallucination least."""

from __future__ import annotations

from workbench.interventions import Intervention
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.amplify import STRENGTHS, WITHIN
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.modulated import modulated
from workbench.visual_methods.scores import CONTRAST, contrast


def edits(asked: Asked) -> Intervention:
    """The strength is the mean α over heads: a head that speaks for words that are there has more."""
    return modulated(asked, -contrast(asked))


METHOD = VisualMethod(
    name="by-contrast",
    help="as PAI, but each head's α falls with the rank of its causal contrast; the mean over heads is that of `amplify`",
    source="ours; promised in arXiv 2501.12206",
    strengths=STRENGTHS,
    neutral=0.0,
    edits=edits,
    within=WITHIN,
    needs=(CONTRAST,),
    heads=True,
    beside="amplify",
)
