"""How far scores agree in which heads come first: Spearman's ρ with intervals, pictures drawn again for both at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.heads import HeadScores

DRAWS = 500
FEWEST = 4
"""Heads below which ranks say nothing."""


class Agreement(NamedTuple):
    """Spearman's ρ of two scores over the heads that both score, with its 95 % interval. n: those heads."""

    first: str
    second: str
    spearman: float
    low: float
    high: float
    n: int


def agreements(scores: Mapping[str, HeadScores], draws: int = DRAWS, seed: int = 0) -> list[Agreement]:
    """Every pair of scores, in their order. NaN where one scores all heads alike, or too few heads have both."""
    pictures = sorted({g for s in scores.values() for g in (s.groups or ())})
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(pictures), np.full(len(pictures), 1 / len(pictures)), size=draws)
    means = {name: _drawn(s, pictures, weights) for name, s in scores.items()}
    names, out = list(scores), []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            both = (scores[first].scored & scores[second].scored).ravel()
            rho, drawn = float("nan"), np.full(1, np.nan)
            if both.sum() >= FEWEST:
                a, b = (scores[n].ranking.ravel()[both] for n in (first, second))
                rho = float(_rho(a[None], b[None])[0])
                drawn = _rho(means[first][:, both], means[second][:, both])
            known = drawn[np.isfinite(drawn)]
            low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
            out.append(Agreement(first, second, rho, float(low), float(high), int(both.sum())))
    return out


def _drawn(scores: HeadScores, pictures: list[str], weights: np.ndarray) -> Float[np.ndarray, "draws heads"]:
    """Scores of each draw of pictures."""
    assert scores.per_sample is not None and scores.groups is not None
    place, flat = {p: i for i, p in enumerate(pictures)}, scores.per_sample.reshape(scores.n, -1)
    rows = weights[:, [place[g] for g in scores.groups]].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rows @ np.nan_to_num(flat)) / rows.sum(1, keepdims=True)


def _rho(a: Float[np.ndarray, "draws heads"], b: Float[np.ndarray, "draws heads"]) -> Float[np.ndarray, " draws"]:
    from scipy.stats import rankdata

    x, y = (rankdata(np.round(v, 12), axis=1) for v in (a, b))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
