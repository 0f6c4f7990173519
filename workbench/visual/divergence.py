"""VHD, vision-aware head divergence: how far a head's output moves when the picture is taken away (arXiv 2412.13949)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.visual.reading import Reading
from workbench.visual.scoring import PerToken, over_tokens

MEASURES = ("l2", "relative", "cosine")
AGAINST = ("nothing", "blank")


def vhd(seen: Reading, measure: str = "l2", against: str = "nothing", at: str = "mean", **fields: Any) -> HeadScores:
    """‖z with the picture − z without it‖₂ at the predicting row, z a head's output before W_O (Eq. 4); a sample a caption.

    measure: relative divides by ‖z‖, cosine is 1 − cos: the plain norm favours heads that are loud anyway. against:
    nothing takes the picture out of the text, which the model has rarely seen; blank puts a blank one in its place. at:
    mean over the generated tokens, or the first (as VHR does). Raises BadInput for other words.
    """
    suffix = ("_blank" if against == "blank" else "") + ("" if measure == "l2" else f"_{measure}")
    given = {**fields.pop("parameters", {}), "measure": measure, "against": against}
    return over_tokens(_of(seen, measure, against), f"visual/vhd{suffix}", at, parameters=given, **fields)


def t_vhd(
    seen: Reading, k: int | None = None, measure: str = "l2", against: str = "nothing"
) -> Float[np.ndarray, "b t"]:
    """T-VHD of each generated token (Eq. 5): the k largest VHD of each layer, summed over layers; NaN behind the end.

    k: default half of the heads. Lower where a word comes from the text alone. Raises BadInput for k < 1.
    """
    each = _of(seen, measure, against)
    k = max(1, each.shape[-1] // 2) if k is None else k
    if not 1 <= k <= each.shape[-1]:
        raise BadInput(f"k={k}: give 1 to {each.shape[-1]} heads of each layer")
    beyond = np.isnan(each).all((2, 3))
    top = np.sort(np.nan_to_num(each, nan=0.0), -1)[..., -k:].sum((-1, -2))
    return np.where(beyond, np.nan, top)


def _of(seen: Reading, measure: str, against: str) -> PerToken:
    if measure not in MEASURES or against not in AGAINST:
        raise BadInput(f"measure={measure}, against={against}: use {', '.join(MEASURES)}; {', '.join(AGAINST)}")
    return getattr(seen, f"blank_{measure}" if against == "blank" else measure)
