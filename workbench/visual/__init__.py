"""Scores of heads of vision-language models: where they look, what the picture changes in them, what they make said.

told = wb.visual.tell(model, images.prompt(model, texts, pictures))   # one greedy generation
seen = wb.visual.read(model, told)                                    # with, without and with a blank picture
wb.visual.vhd(seen), wb.visual.image_mass(seen), …                    # a HeadScores each
"""

from __future__ import annotations

from workbench.visual.contrast import causal_contrast, word_effects
from workbench.visual.divergence import t_vhd, vhd
from workbench.visual.localising import elbow, localisation, spatial_entropy
from workbench.visual.looks import Looks, look_at
from workbench.visual.mass_on_picture import image_mass
from workbench.visual.picture_sinks import image_centric, sink_dimensions, visual_sinks
from workbench.visual.reading import Reading, read
from workbench.visual.scoring import about
from workbench.visual.told import Told, tell
from workbench.visual.words import Word, spoken

__all__ = [
    "Looks", "Reading", "Told", "Word", "about", "causal_contrast", "elbow", "image_centric", "image_mass", "localisation",
    "look_at", "read", "sink_dimensions", "spatial_entropy", "spoken", "t_vhd", "tell", "vhd", "visual_sinks", "word_effects",
]  # fmt: skip
