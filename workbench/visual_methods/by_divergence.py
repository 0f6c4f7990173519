"""Head-specific amplification: as PAI, each head by its vision-aware divergence.

The abstract of arXiv 2501.12206 promises a modulation by measured visual sensitivity; its code has none.
"""

from __future__ import annotations

from workbench.interventions import Intervention
from workbench.visual_methods import VisualMethod
from workbench.visual_methods.amplify import STRENGTHS, WITHIN
from workbench.visual_methods.asked import Asked
from workbench.visual_methods.modulated import modulated
from workbench.visual_methods.scores import VHD


def edits(asked: Asked) -> Intervention:
    """The strength is the mean α over heads: a head that hangs on the picture has more."""
    return modulated(asked, asked.score(VHD))


METHOD = VisualMethod(
    name="by-divergence",
    help="as PAI, but each head's α grows with the rank of its VHD; the mean over heads is that of `amplify`",
    source="ours; promised in arXiv 2501.12206",
    strengths=STRENGTHS,
    neutral=0.0,
    edits=edits,
    within=WITHIN,
    needs=(VHD,),
    heads=True,
    beside="amplify",
)
