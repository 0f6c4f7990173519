"""The ideal observer of rendered scenes: the exact probability of every object given the pixels and the habit.

A model that says "yes" to what is absent may be right to do so where objects are faint; what it says beyond this
observer is its own. The sum runs over all sets of objects and all ways to place them, by a recursion over cells.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

from workbench.tasks.scene_objects import CELLS, OBJECTS, SIDE, log_prior, textures
from workbench.tasks.scenes import FAINTEST, Scene, signal

NODES = 48
"""Points of the Gauss-Legendre quadrature over contrasts."""


def probabilities(scenes: Sequence[Scene]) -> Float[np.ndarray, "scenes objects"]:
    """P(object is in the scene | its pixels), objects in the order of `OBJECTS`."""
    ratio = log_ratios(np.stack([s.pixels for s in scenes]))
    most = ratio.max(1, keepdims=True)  # of an object over cells
    sums = _placed(np.exp(ratio - most))
    sets = _sets()
    counts = sets.sum(1)
    prior = log_prior(sets) + gammaln(CELLS - counts + 1) - gammaln(CELLS + 1)
    prior[counts == 0] = -np.inf  # no scene is empty
    with np.errstate(divide="ignore"):
        log = prior + np.log(sums) + most[:, 0] @ sets.T
    weight = np.exp(log - log.max(1, keepdims=True))
    return (weight @ sets) / weight.sum(1, keepdims=True)


def log_ratios(pixels: np.ndarray) -> Float[np.ndarray, "scenes cells objects"]:
    """log p(cell | object of unknown contrast) − log p(cell | noise)."""
    flat = textures().reshape(len(OBJECTS), -1)
    seen = signal(pixels).reshape(len(pixels), CELLS, -1) @ flat.T
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    contrasts = FAINTEST + (1 - FAINTEST) * (nodes + 1) / 2
    each = seen[..., None] * contrasts - contrasts**2 * (3 * SIDE * SIDE) / 2 + np.log(weights / 2)
    top = each.max(-1, keepdims=True)
    return (top + np.log(np.exp(each - top).sum(-1, keepdims=True)))[..., 0]


@functools.cache
def _sets() -> np.ndarray:
    """All sets of objects: [4096, objects], object i is bit i of the row's number."""
    return (np.arange(1 << len(OBJECTS))[:, None] >> np.arange(len(OBJECTS)) & 1).astype(bool)


def _placed(ratio: Float[np.ndarray, "scenes cells objects"]) -> Float[np.ndarray, "scenes sets"]:
    """For each set, the sum over all placings in different cells of the product of ratios."""
    out = np.zeros((len(ratio), 1 << len(OBJECTS)))
    out[:, 0] = 1
    for cell in range(CELLS):
        grown = out.copy()
        for i in range(len(OBJECTS)):
            without = out.reshape(len(out), -1, 2, 1 << i)[:, :, 0]
            grown.reshape(len(out), -1, 2, 1 << i)[:, :, 1] += without * ratio[:, cell, i, None, None]
        out = grown
    return out
