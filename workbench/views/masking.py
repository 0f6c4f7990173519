"""Masking curves of a validation: the list against its controls, as a figure and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.views.curves import Curves, Series
from workbench.views.table import Cell, Table

if TYPE_CHECKING:
    from workbench.validation import Validation


def masking_curves(validation: Validation) -> Curves:
    """The task's metric against the number of masked heads: list, layer-matched random heads, all layers, bottom."""
    v = validation
    ks = [float(p.k) for p in v.points]
    top = [p.top for p in v.points]
    bounds = [wilson(y, v.n) for y in top]
    series = [Series("top K of the list", ks, top, *map(list, zip(*bounds, strict=True)))]
    for name, pick in (("random, same layers", "matched"), ("random, all layers", "all_layers")):
        drawn = [p for p in v.points if getattr(p, pick)]
        if drawn:
            low, high = zip(*(band(getattr(p, pick)) for p in drawn), strict=True)
            mean = [float(np.mean(getattr(p, pick))) for p in drawn]
            series.append(Series(name, [float(p.k) for p in drawn], mean, low, high))
    series.append(Series("bottom K", ks, [p.bottom for p in v.points]))
    marks = [(float(v.halves_at), "recall halves")] if v.halves_at else []
    stops = [p.k for p in v.points if not p.matched]
    missing = f" Too few other heads in the list's layers for a matched control at K = {stops}." if stops else ""
    caption = (
        f"`{v.ablation}` ablation, n = {v.n} samples, unmasked {v.base:.2f}, proof={v.proof}. Bands: 95 % Wilson "
        f"interval of the list's recall; middle 95 % of the random draws.{missing}"
    )
    finding = f"{v.metric}: " + "; ".join(f"{p.top:.2f} with the top {p.k} masked" for p in v.points)
    return Curves(series, "heads masked (K)", v.metric, finding, caption=caption, marks=marks)


def masking_table(validation: Validation) -> Table:
    """The same numbers with draws, secondary tests, the off-task loss and the ties at each cut."""
    v = validation
    rows: list[list[Cell]] = [
        [p.k, (p.top, *wilson(p.top, v.n)), spread(p.matched), len(p.matched), p.p, p.q, spread(p.all_layers), p.bottom,
         p.off_task, p.ties]
        for p in v.points
    ]  # fmt: skip
    columns = (
        "K", "top K (95 %)", "same layers (95 %)", "draws", "p", "q", "all layers (95 %)", "bottom K", "off-task loss",
        "ties at the cut",
    )  # fmt: skip
    unmasked = "" if v.off_task is None else f" Off-task: next-token loss in nats on prose, unmasked {v.off_task:.2f}."
    caption = f"p: against the same layers, secondary; q: all secondary tests corrected together.{unmasked}"
    return Table(columns, rows, caption, digits=3)


def band(draws: tuple[float, ...]) -> tuple[float, float]:
    """The middle 95 % of control draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def wilson(rate: float, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a mean of n values in [0, 1]; for shares of successes the textbook one."""
    z = 1.959964
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def spread(draws: tuple[float, ...]) -> tuple[float, float, float] | None:
    """Mean and band of control draws; None where there are none."""
    return (float(np.mean(draws)), *band(draws)) if draws else None
