"""0/1 patterns and lists of heads, as several formats hold them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from workbench.errors import BadInput
from workbench.heads import HeadScores

_LAYER = re.compile(r"0|[1-9]\d{0,4}", re.ASCII)


def pattern_scores(
    pattern: Float[np.ndarray, "layers heads"], method: str, parameters: Mapping[str, Any], kv_heads: int | None
) -> HeadScores:
    """A 0/1 pattern as scores whose threshold lies between."""
    return HeadScores(pattern, method, {**parameters, "threshold": 0.5}, kv_heads=kv_heads)


def rows_of_bits(path: Path, rows: Sequence[Any]) -> Float[np.ndarray, "layers heads"]:
    """Equally long rows of 0 and 1. Raises BadInput, with the layer, for anything else."""
    for layer, row in enumerate(rows):
        if not isinstance(row, list) or not all(type(x) is int and x in (0, 1) for x in row):
            raise BadInput(f"{path}: layer {layer} is no list of 0 and 1")
        if len(row) != len(rows[0]):
            raise BadInput(f"{path}: layer {layer} has {len(row)} heads, layer 0 has {len(rows[0])}")
    if not rows or not rows[0]:
        raise BadInput(f"{path}: no layer in it")
    return np.array(rows, dtype=float)


def by_layer(full: Bool[np.ndarray, "layers heads"]) -> dict[int, list[int]]:
    """Full heads of each layer that has any."""
    return {layer: np.flatnonzero(row).tolist() for layer, row in enumerate(full) if row.any()}


def from_lists(
    path: Path, lists: Iterable[tuple[Any, Any]], layers: int, heads: int
) -> Float[np.ndarray, "layers heads"]:
    """1 for the heads listed under their layer (a number, or a decimal text). Raises BadInput for any other head."""
    out = np.zeros((layers, heads))
    for key, listed in lists:
        layer = int(key) if isinstance(key, str) and _LAYER.fullmatch(key) else key
        if type(layer) is not int or not 0 <= layer < layers:
            raise BadInput(f"{path}: {str(key)[:40]!r} is no layer of 0 to {layers - 1}")
        if (
            not isinstance(listed, list)
            or len(listed) > heads
            or not all(type(h) is int and 0 <= h < heads for h in listed)
        ):
            raise BadInput(f"{path}: layer {layer} is no list of heads from 0 to {heads - 1}")
        out[layer, listed] = 1.0
    return out
