"""From sums over texts to scores of heads with intervals: texts are resampled, not rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LEVEL, DRAWS = 0.95, 1000
Sums = Mapping[str, Float[np.ndarray, "*texts layers heads"]]
"""Sums over the rows of a text, by name."""
Formula = Callable[[Sums], Float[np.ndarray, "*texts layers heads"]]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A score of every head, its 95 % percentile bootstrap interval over texts (NaN below two), and their number."""

    values: Float[np.ndarray, "layers heads"]
    low: Float[np.ndarray, "layers heads"]
    high: Float[np.ndarray, "layers heads"]
    n: int


def estimate(sums: Sums, names: tuple[str, ...], of: Formula, seed: int = 0) -> Estimate:
    """The score that `of` makes of the sums over all texts; names: those of the sums that it reads.

    A mean is over rows, so that a longer text counts more; the interval resamples texts and makes the score again.
    """
    held = {name: np.asarray(sums[name], dtype=np.float64) for name in names}
    n = len(next(iter(held.values())))
    values = of({name: x.sum(0) for name, x in held.items()})
    if n < 2:
        nothing = np.full(values.shape, np.nan)
        return Estimate(values, nothing, nothing.copy(), n)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS).astype(np.float64)
    drawn = {name: np.tensordot(weights, x, 1) for name, x in held.items()}
    made = of(drawn)
    low, high = _bounds(made, (1 - LEVEL) / 2)
    return Estimate(values, low, high, n)


def mean_over(samples: Float[np.ndarray, "samples layers heads"], seed: int = 0) -> Estimate:
    """The mean of one score a sample, of each head over the samples that score it; n: samples that score any."""
    known = [i for i, s in enumerate(samples) if not np.isnan(s).all()]
    if not known:
        nothing = np.full(samples.shape[1:], np.nan)
        return Estimate(nothing, nothing.copy(), nothing.copy(), 0)
    kept = samples[known]
    held = {"x": np.nan_to_num(kept), "n": (~np.isnan(kept)).astype(float)}
    return estimate(held, ("x", "n"), ratio("x", "n"), seed)


def ratio(above: str, below: str) -> Formula:
    """One sum over another; NaN where there is nothing below."""

    def of(sums: Sums) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(sums[below] > 0, sums[above] / sums[below], np.nan)

    return of


def variance(first: str, second: str, rows: str) -> Formula:
    """E[d²] − E[d]² over all rows together."""

    def of(sums: Sums) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, square = (np.where(sums[rows] > 0, sums[x] / sums[rows], np.nan) for x in (first, second))
        return np.maximum(square - mean**2, 0.0)

    return of


def _bounds(drawn: Float[np.ndarray, "draws layers heads"], tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles over the draws that have a score; NaN where none has."""
    missing = np.isnan(drawn).all(0)
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(np.where(missing, 0.0, drawn), [tail, 1 - tail], axis=0)
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)
