"""Names of the head scores that methods read, and what they make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from workbench.errors import Unsupported

if TYPE_CHECKING:
    from workbench.visual_methods.asked import Asked

VHD, CONTRAST, IMAGE_MASS = "vhd", "causal_contrast", "image_mass"
Heads = tuple[tuple[int, int], ...]


def best(values: Float[np.ndarray, "layers heads"], k: int, above: float = -np.inf) -> Heads:
    """At most k heads of the highest scores above a bound; ties by (layer, head). Heads without a score never are."""
    order = sorted(zip(*np.nonzero(values > above), strict=True), key=lambda at: (-values[at], *at))
    return tuple((int(layer), int(head)) for layer, head in order[:k])


def best_of_layers(values: Float[np.ndarray, "layers heads"], k: int) -> Heads:
    """The k best heads of every layer that has scores."""
    out: list[tuple[int, int]] = []
    for layer, row in enumerate(values):
        out += [(layer, head) for _, head in best(row[None], k)]
    return tuple(out)


def shares(values: Float[np.ndarray, "layers heads"]) -> Float[np.ndarray, "layers heads"]:
    """A monotone function of scores with mean one: a head's rank over the mean rank, in (0, 2); ties share theirs.

    Ranks, and not the scores, for these have outliers, and contrasts both signs. NaN where there is no score.
    """
    out, known = np.full(values.shape, np.nan), ~np.isnan(values)
    ranks = rankdata(values[known])
    out[known] = ranks / ranks.mean()
    return out


def contrast(asked: Asked) -> Float[np.ndarray, "layers heads"]:
    """Causal contrast of the heads. Raises Unsupported for that of |Δp|, which has no direction."""
    if asked.scores[CONTRAST].parameters.get("measure") == "absolute":
        raise Unsupported(
            "contrast=absolute says how much heads change words, not whether they drive them: use probability or log"
        )
    return asked.score(CONTRAST)
