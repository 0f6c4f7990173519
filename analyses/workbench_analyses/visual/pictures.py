"""A few pictures with what heads looked at laid over them, word by word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.views import Block, ImageOverlay, Prose

if TYPE_CHECKING:
    from workbench_analyses.visual.result import VisualScan

MAPS = 64
"""Heads whose maps are held for browsing, at most: half of the highest VHD, half of the highest causal contrast."""


def picture_blocks(scan: VisualScan) -> list[Block]:
    """The overlay, or why there is none."""
    if isinstance(scan.looks, str) or not scan.looks:
        return [Prose((f"No pictures: {scan.looks or 'no caption has a word'}.",))]
    caption = (
        "Pictures of the score set, those with an invented word first. Choose a word, then a head: the overlay is its "
        "attention at the row that predicts the word. Attention shows where a head looked, not what it took from there."
    )
    return [ImageOverlay(scan.looks, heads=_browsed(scan), caption=caption)]


def _browsed(scan: VisualScan) -> list[tuple[int, int]] | None:
    """All heads of a small model, the best of a large one."""
    if int(np.prod(scan.scores["vhd"].values.shape)) <= MAPS:
        return None
    best = [h for name in ("vhd", "causal_contrast") if name in scan.scores for h in scan.scores[name].top(MAPS // 2)]
    return list(dict.fromkeys((h.layer, h.head) for h in best))
