"""Attention maps as bytes: 64 logarithmic levels, so that a picture of 1,024 heads weighs a few hundred kilobytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from workbench.errors import BadInput

LEAST = 1e-6
"""Less mass than this is stored as none."""
TOP = 63
"""The level of a weight of 1; level 1 is LEAST, and each level is 1.25 times the one below."""
UNKNOWN = 255
"""Stored where a layer has no attention of this kind."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A part of one head's pattern in square-cut blocks: cells [channels, rows, columns] from (query, key) on.

    Channel 0 is the mean over a block's queries of the mass on its keys; channel 1, where there is one, its largest
    weight. tall, wide: tokens in a block. Raises BadInput where cells have another shape.
    """

    head: tuple[int, int]
    cells: Float[np.ndarray, "channels rows columns"]
    tall: int
    wide: int
    query: int = 0
    key: int = 0

    def __post_init__(self) -> None:
        """Check the shape."""
        if np.ndim(self.cells) != 3 or self.tall < 1 or self.wide < 1:
            raise BadInput(
                f"tile of head {self.head}: cells are {np.shape(self.cells)}, expected [channels, rows, columns]"
            )


def levels(weights: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Each weight in [0, 1] as its level, within 12 %; 0 below LEAST, UNKNOWN for NaN."""
    weights = np.asarray(weights, dtype=np.float64)
    place = 1 + (TOP - 1) * (1 - np.log(np.maximum(weights, LEAST)) / math.log(LEAST))
    out = np.where(weights < LEAST, 0, np.clip(np.round(place), 1, TOP))
    return np.where(np.isnan(weights), UNKNOWN, out).astype(np.uint8)


def weights_of(level: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The weights that levels stand for, as the viewer reads them."""
    level = np.asarray(level)
    out = np.where(level == 0, 0.0, LEAST ** (1 - (level.astype(np.float64) - 1) / (TOP - 1)))
    return np.where(level == UNKNOWN, np.nan, out)
