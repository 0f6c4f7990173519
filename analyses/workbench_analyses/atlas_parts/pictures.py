"""Pictures of patterns: each prompt's pattern in a few blocks, of every head, as levels that pack small.

One level is one character in the page. The side of a picture is chosen so that all of them together stay small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from workbench.models import Model
from workbench.observation import observe
from workbench.probes import thumbnail
from workbench.views.text import visible
from workbench_analyses.atlas_parts.side import Picture
from workbench_analyses.atlas_parts.texts import Shown

SIDES = (32, 24, 20, 16, 12, 8)
MOST_CELLS = 2_200_000
"""Cells of all pictures of all heads, one triangle each: about a byte each before, a third of it after packing."""
LEVELS = 12
"""Level 0 is below FAINTEST, the highest is all of a row."""
FAINTEST = 1e-3


def side(heads: int, prompts: int, models: int = 1) -> int:
    """Blocks a side: as many as the page can hold. heads: of one of the models."""
    drawn = heads * max(1, prompts) * models
    return next((s for s in SIDES if drawn * s * (s + 1) // 2 <= MOST_CELLS), SIDES[-1])


@torch.no_grad()
def levels(model: Model, shown: Shown, n: int) -> UInt8[np.ndarray, "layers heads n n"]:
    """Mass on each block's keys, mean over its queries, in levels. Layers without attention are 0."""
    tokens = torch.tensor([list(shown.tokens)], device=model.device)
    pooled = observe(model, tokens, [thumbnail(n)], inputs=_inputs(shown.inputs))["thumbnail"].pooled[:, 0, :, 0]
    return quantised(np.nan_to_num(pooled.float().cpu().numpy()))


def quantised(mass: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """0 below FAINTEST, then equal steps of the logarithm up to 1."""
    scaled = 1 + np.log(np.maximum(mass, FAINTEST) / FAINTEST) / -np.log(FAINTEST) * (LEVELS - 2)
    return np.where(mass < FAINTEST, 0, np.clip(np.rint(scaled), 1, LEVELS - 1)).astype(np.uint8)


def picture(shown: Shown, words: tuple[str, ...], found: UInt8[np.ndarray, "layers heads n n"]) -> Picture:
    """A prompt with what was found on it; its words as they can be seen."""
    return Picture(shown.name, tuple(visible(w) for w in words), dict(shown.spans), found)


def _inputs(inputs: Any) -> Any:
    return dict(inputs) if inputs else None
