"""Spatial entropy of a map, component by component: what tests of visual scores compare with."""

from __future__ import annotations

import numpy as np


def entropy_by_hand(look: np.ndarray) -> float:
    """Components by flooding, one cell at a time."""
    above = np.maximum(look - look.mean(), 0)
    left = {(i, j) for i, j in np.argwhere(above > 1e-3).tolist()}
    sums = []
    while left:
        open_, total = [left.pop()], 0.0
        while open_:
            i, j = open_.pop()
            total += above[i, j]
            near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            open_ += near
        sums.append(total)
    p = np.array(sums) / np.sum(sums) if sums else np.full(look.size, 1 / look.size)
    return float(-(p * np.log(p)).sum())
