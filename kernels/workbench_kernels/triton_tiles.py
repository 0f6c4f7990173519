"""Sizes of a launch: how many rows and keys a program takes, with how many warps and stages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@dataclass(frozen=True)
class Tiles:
    """Sizes of a launch."""

    rows: int
    keys: int
    warps: int
    stages: int

    @property
    def options(self) -> dict[str, Any]:
        """Launch options; the fusion of products and sums is set, as its default changes between Triton versions."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


def tiles(width: int, itemsize: int, two: bool = False) -> Tiles:
    """For a head dimension, bytes an element, and whether there are two accumulators.

    Chosen by what compiles for sm_90 without spilling (float32: with the least), not by time: see triton_compile.
    """
    if INTERPRETED:
        return Tiles(32, 16, 4, 1)
    if itemsize == 4:
        return Tiles(64, 32, 4, 2) if width <= 128 else Tiles(32, 32, 4, 1)
    if width > 128:
        return Tiles(64, 32, 8, 2)
    return Tiles(128, 32 if two else 64, 8, 3)
