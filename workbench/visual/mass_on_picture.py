"""Image mass: how much a head looks at the picture while it helps to predict words."""

from __future__ import annotations

from typing import Any

from workbench.heads import HeadScores
from workbench.visual.reading import Reading
from workbench.visual.scoring import over_tokens


def image_mass(seen: Reading, at: str = "mean", **fields: Any) -> HeadScores:
    """Attention on all parts of the picture at the row that predicts a token, from 0 to 1; a sample a caption.

    Σ_{k in picture} A[q, k], mean over the generated tokens, or the first one (SPIN, arXiv 2505.16411; middle layers,
    arXiv 2411.16724). fields: `about(model)`, and what else HeadScores takes. A large mass is no proof of use.
    """
    return over_tokens(seen.mass, "visual/image_mass", at, **fields)
