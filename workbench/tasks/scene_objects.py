"""What stands in the rendered scenes: twelve COCO words in six pairs, each a coloured shape of 8 × 8 pixels.

A leader brings its partner nearly always; partners are rare alone. Leaders are Zipf-distributed, so that the most
frequent object, the one that goes with what is there, and any object are three different negatives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

PAIRS = (
    ("car", "truck"),
    ("fork", "knife"),
    ("keyboard", "mouse"),
    ("toilet", "sink"),
    ("couch", "tv"),
    ("cup", "bowl"),
)
"""(leader, partner), the most frequent first."""
OBJECTS = tuple(word for pair in PAIRS for word in pair)
"""All words, leaders at even places; captions name them in this order."""
LEADS = tuple(0.8 / (i + 1) ** 0.8 for i in range(len(PAIRS)))
"""How often each leader stands in a scene."""
TOGETHER = 0.9
"""How often a leader's partner stands beside it."""
ALONE = 0.1
"""How often a partner stands in a scene without its leader."""
SIDE = 8
"""Pixels of a cell's side."""
GRID = 4
"""Cells of a scene's side."""
CELLS = GRID * GRID

_y, _x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
SHAPES: tuple[Callable[[], np.ndarray], ...] = (
    lambda: np.hypot(_y, _x) < 3,  # disc
    lambda: (np.abs(_y) < 1) | (np.abs(_x) < 1),  # cross
    lambda: _y % 4 < 2,  # bars that lie
    lambda: _x % 4 < 2,  # bars that stand
    lambda: np.abs(np.abs(_y) - np.abs(_x)) < 1,  # saltire
    lambda: _y > _x,  # half
)
"""Which pixels of a cell a pair's shape takes."""
COLOURS = (
    (np.array([1, 0, -1]), np.array([-1, 2, -1])), (np.array([-1, 0, 1]), np.array([1, 1, 1])),
    (np.array([1, -2, 1]), np.array([1, 0, -1])), (np.array([-1, 2, -1]), np.array([-1, 0, 1])),
    (np.array([1, 1, 1]), np.array([1, -2, 1])), (np.array([-1, -1, -1]), np.array([-1, 2, -1])),
)  # fmt: skip
"""Red, green and blue of a pair's leader and of its partner: orthogonal, so that only the colour parts them."""


@functools.cache
def textures() -> Float[np.ndarray, "objects 3 side side"]:
    """The picture of each object: mean zero, root mean square one."""
    out = []
    for i in range(len(OBJECTS)):
        mask = SHAPES[i // 2]().astype(float)
        one = np.asarray(COLOURS[i // 2][i % 2], float)[:, None, None] * (mask - mask.mean())
        out.append(one / np.sqrt((one**2).mean()))
    return np.stack(out)


def log_prior(present: np.ndarray) -> np.ndarray:
    """Log-probability of sets of objects, [..., objects] of true and false, in the scenes' ordinary distribution."""
    leader, partner = present[..., ::2], present[..., 1::2]
    lead = np.where(leader, LEADS, 1 - np.array(LEADS))
    follow = np.where(leader, TOGETHER, ALONE)
    return (np.log(lead) + np.log(np.where(partner, follow, 1 - follow))).sum(-1)
