"""Whether the parts of a HeadScores fit each other, and whether a file may speak of so many heads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import BadInput

if TYPE_CHECKING:
    from workbench.heads import HeadScores


MOST_HEADS = 1 << 20
"""Heads of a model; the largest have some 16,000."""
MOST_SCORES = 1 << 26
"""Numbers that a file may ask memory for (512 MB), whatever its own size."""


def check_size(path: Path, layers: int, heads: int, each: int = 1) -> None:
    """Raise BadInput for more heads than any model has, and for more scores (`each` a head) than are meant.

    A file of a few bytes may name head 99999-99999.
    """
    if not 0 < layers * heads <= MOST_HEADS:
        raise BadInput(f"{path}: {layers} layers × {heads} heads cannot be meant")
    if layers * heads * each > MOST_SCORES:
        raise BadInput(f"{path}: {each} scores for each of {layers} × {heads} heads cannot be meant")


def check_fit(scores: HeadScores) -> None:
    """Raise BadInput where the parts of a HeadScores do not fit each other."""
    values, samples, what = scores.values, scores.per_sample, scores.method
    if values.ndim != 2 or not values.size:
        raise BadInput(f"{what}: scores are layers × heads, not {'×'.join(map(str, values.shape))}")
    if np.isinf(values).any():
        raise BadInput(f"{what}: a score is infinite")
    if scores.tiebreak is not None and scores.tiebreak.shape != values.shape:
        raise BadInput(f"{what}: tiebreak has another shape than the scores")
    if scores.kv_heads is not None and (scores.kv_heads < 1 or scores.n_heads % scores.kv_heads):
        raise BadInput(f"{what}: {scores.n_heads} heads cannot share {scores.kv_heads} key-value heads (kv_heads=)")
    if any(not 0 <= layer < scores.n_layers or scores.scored[layer].any() for layer in scores.skipped_layers):
        raise BadInput(f"{what}: skipped_layers {scores.skipped_layers} must be layers without scores")
    _check_parameters(scores)
    if scores.groups is not None and len(scores.groups) != scores.n:
        raise BadInput(f"{what}: {len(scores.groups)} groups for {scores.n} samples")
    if samples is None:
        return
    if samples.shape[1:] != values.shape:
        raise BadInput(f"{what}: per_sample is samples × layers × heads, and layers × heads differ from the scores")
    if len(samples) and not np.allclose(samples.mean(0)[scores.scored], values[scores.scored], rtol=0, atol=1e-5):
        raise BadInput(f"{what}: the scores are not the mean of per_sample")


def _check_parameters(scores: HeadScores) -> None:
    """Those that cuts and servers are made from."""
    line = scores.parameters.get("threshold")
    if line is not None and not (isinstance(line, int | float) and abs(line) < np.inf):
        raise BadInput(f"{scores.method}: threshold {str(line)[:40]!r} is no number")
    for name in ("sink_size", "recent_size"):
        size = scores.parameters.get(name, 0)
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 40:
            raise BadInput(f"{scores.method}: {name} {str(size)[:40]!r} is no number of tokens")
