"""Random looks of a model at a picture: a caption with words that are invented or hostile, and where heads looked."""

from __future__ import annotations

import numpy as np

from workbench.visual.grids import Grid
from workbench.visual.looks import Looks, Said

SCRIPT = "</script><script>alert(1)</script>"
WORDS = (
    Said("a"), Said("dog", "dog", False), Said("beside"), Said(SCRIPT), Said("trucks", "truck", True), Said(".")
)  # fmt: skip


def looks(name="first", size=(40, 60), views=((3, 4), (5, 7)), layers=3, heads=5, seed=0, words=WORDS) -> Looks:
    rng = np.random.default_rng(seed)
    grids = tuple(
        Grid(n, np.arange(r * c).reshape(r, c), (0.1, 0.0, 0.9, 1.0) if n == "overview" else (0.0, 0.0, 1.0, 1.0))
        for n, (r, c) in zip(("overview", "tiles"), views, strict=False)
    )
    front = (len(words), layers, heads)
    levels = tuple(rng.integers(0, 256, (*front, *view), dtype=np.uint8) for view in views)
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return Looks(name, pixels, words, grids, levels, rng.random(front) * 0.3, rng.random(front))
