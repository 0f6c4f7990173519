"""Localisation heads: attention on the picture that is much and stands in one place (arXiv 2503.06287)."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from workbench.errors import BadInput
from workbench.heads import HeadScores

if TYPE_CHECKING:
    from workbench.visual.reading import Reading

LEAST = 1e-3
"""Attention above the map's mean from which a part of the picture belongs to a component."""


def spatial_entropy(look: Float[np.ndarray, "rows columns"]) -> float:
    """H = −Σ p log p in nats over the 8-connected components of relu(S − mean S) > 0.001; 0: all in one place.

    p: a component's share of that sum. A map without a component is even and gets the log of its parts, the most.
    """
    from scipy.ndimage import label

    above = np.maximum(look - look.mean(), 0)
    above[above <= LEAST] = 0
    found: Any = label(above > 0, structure=np.ones((3, 3)))
    names, n = found
    if not n:
        return log(look.size)
    share = np.bincount(names.ravel(), above.ravel())[1:] / above.sum()
    return float(-(share * np.log(share)).sum()) + 0.0


def spatial_entropies(look: Float[np.ndarray, "*heads rows columns"]) -> Float[np.ndarray, "*heads"]:
    """Of many maps; NaN for those that are not known (layers without softmax attention)."""
    flat = look.reshape(-1, *look.shape[-2:])
    each = [np.nan if np.isnan(x).any() else spatial_entropy(x) for x in flat]
    return np.array(each).reshape(look.shape[:-2])


def elbow(sums: Float[np.ndarray, " heads"]) -> Bool[np.ndarray, " heads"]:
    """Which values lie above the elbow of their sorted curve: its point farthest from the line between its ends.

    All of them where the curve is straight. Raises BadInput for no value.
    """
    if not len(sums):
        raise BadInput("elbow: no value")
    down = np.sort(sums)[::-1]
    line = np.linspace(down[0], down[-1], len(down))
    away = down - line
    at = int(np.abs(away).argmax())
    if abs(away[at]) <= 1e-12 * max(1.0, float(np.abs(down).max())):
        return np.ones(len(sums), dtype=bool)
    return sums >= down[at] if away[at] > 0 else sums > down[at]


def localisation(seen: Reading, **fields: Any) -> HeadScores:
    """Minus the spatial entropy of the prompt's last token's look at the picture; 0 is one place; a sample a picture.

    Heads whose mean attention on the picture is below the elbow of all heads are not scored. fields: see `image_mass`.
    Raises BadInput where it is not known where parts lie (`Reading.entropy` is NaN).
    """
    return localised(seen.looks, seen.entropy, **fields)


def localised(
    looks: Float[np.ndarray, "b layers heads"], entropy: Float[np.ndarray, "b layers heads"], **fields: Any
) -> HeadScores:
    """`localisation` from attention on the picture and spatial entropy."""
    known = ~np.isnan(entropy).all(0)
    if not known.any():
        raise BadInput(
            "localisation: where a placeholder looks in a picture is not known for this model (see wb.visual.read)"
        )
    keep = np.zeros_like(known)
    keep[known] = elbow(looks.mean(0)[known])
    parameters = {"kept": int(keep.sum()), "above": LEAST, **fields.pop("parameters", {})}
    samples = np.where(keep, -entropy, np.nan)
    return HeadScores.from_samples(samples, "visual/localisation", parameters=parameters, **fields)
