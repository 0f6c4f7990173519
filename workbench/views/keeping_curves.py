"""Curves of heads that stay full while all others have a window, as a figure and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.views.curves import Curves, Series
from workbench.views.masking import band, spread, wilson
from workbench.views.table import Cell, Table

if TYPE_CHECKING:
    from workbench.keeping import Keeping


def keeping_curves(keeping: Keeping) -> Curves:
    """Recall against the number of full heads: list, layer-matched random heads, all layers; K = 0 windows all."""
    v = keeping
    ks = [0.0, *(float(p.k) for p in v.points)]
    top = [v.none, *(p.top for p in v.points)]
    series = [Series("top K kept full", ks, top, *map(list, zip(*(wilson(y, v.n) for y in top), strict=True)))]
    for name, pick in (("random, same layers", "matched"), ("random, all layers", "all_layers")):
        drawn = [p for p in v.points if getattr(p, pick)]
        if drawn:
            low, high = zip(*(band(getattr(p, pick)) for p in drawn), strict=True)
            mean = [float(np.mean(getattr(p, pick))) for p in drawn]
            low, high = (v.none, *low), (v.none, *high)
            series.append(Series(name, [0.0, *(float(p.k) for p in drawn)], [v.none, *mean], low, high))
    caption = (
        f"All other heads see the first {v.sink} tokens and the last {v.recent}. n = {v.n} samples whose needle lies "
        f"outside that window; all heads full {v.full:.2f}, none {v.none:.2f}. Bands: 95 % Wilson interval of the "
        "list's recall; middle 95 % of the random draws."
    )
    finding = f"{v.metric}: " + "; ".join(f"{p.top:.2f} with the top {p.k} kept" for p in v.points)
    marks = [(float(v.enough_at), "enough")] if v.enough_at else []
    return Curves(series, "heads kept full (K)", v.metric, finding, caption=caption, marks=marks)


def keeping_table(keeping: Keeping) -> Table:
    """The same numbers with draws and tests."""
    v = keeping
    rows: list[list[Cell]] = [
        [p.k, (p.top, *wilson(p.top, v.n)), spread(p.matched), len(p.matched), p.p, p.q, spread(p.all_layers)]
        for p in v.points
    ]
    columns = ("K", "top K kept (95 %)", "same layers kept (95 %)", "draws", "p", "q", "all layers kept (95 %)")
    caption = "p: against the same layers, secondary; q: corrected together with the other secondary tests."
    return Table(columns, rows, caption, digits=3)
