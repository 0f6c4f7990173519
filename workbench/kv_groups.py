"""From query heads to the key-value heads that serve them (grouped-query attention)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.heads import HeadScores


def to_kv_heads(scores: HeadScores, reduce: Literal["max", "mean"] = "max") -> HeadScores:
    """One score per key-value head, over the scored query heads of its group; NaN where none is scored.

    Query heads of a group are neighbours: query head h reads key-value head h // (heads / kv_heads).
    max: values, samples and tiebreak are those of the group's best query head, so an interval does not
    hold the choice of that head. Raises BadInput if `kv_heads` is unknown or `reduce` is neither max nor mean.
    """
    if scores.kv_heads is None:
        raise BadInput(f"{scores.method} scores do not say how many key-value heads the model has: give kv_heads=")
    if reduce not in ("max", "mean"):
        raise BadInput(f"reduce={reduce} is unknown: use max or mean")
    if scores.kv_heads == scores.n_heads:
        return scores
    if reduce == "max":
        weights = _best(scores)
    else:
        weights = _grouped(scores.scored.astype(float), scores.kv_heads)
        weights = weights / np.maximum(weights.sum(-1, keepdims=True), 1)

    def reduced(array: Float[np.ndarray, "*batch layers heads"]) -> Float[np.ndarray, "*batch layers kv"]:
        chosen = np.where(weights > 0, _grouped(array, weights.shape[1]), 0)
        return np.where(weights.any(-1), (chosen * weights).sum(-1), np.nan)

    return replace(
        scores,
        values=reduced(scores.values),
        per_sample=None if scores.per_sample is None else reduced(scores.per_sample),
        tiebreak=None if scores.tiebreak is None else reduced(scores.tiebreak),
        parameters={
            **scores.parameters,
            "kv_reduction": f"{reduce} over {scores.n_heads // scores.kv_heads} query heads",
        },
    )


def _grouped(
    array: Float[np.ndarray, "*batch layers heads"], kv_heads: int
) -> Float[np.ndarray, "*batch layers kv group"]:
    return array.reshape(*array.shape[:-1], kv_heads, -1)


def _best(scores: HeadScores) -> Float[np.ndarray, "layers kv group"]:
    """1 at the best scored query head of each group, by score and then tiebreak; 0 elsewhere."""
    place = np.full(scores.values.shape, np.inf)
    for position, head in enumerate(scores.rank()):
        place[head] = position
    grouped = _grouped(place, scores.kv_heads or 1)
    first = np.arange(grouped.shape[-1]) == grouped.argmin(-1)[..., None]
    return (first & np.isfinite(grouped)).astype(float)
