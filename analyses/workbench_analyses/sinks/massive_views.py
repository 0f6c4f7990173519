"""Massive activations and Φ as parts of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.views import Block, Curves, Series, Table
from workbench.views.table import Cell
from workbench.views.text import visible
from workbench_analyses.sinks.tables import massive_rows

if TYPE_CHECKING:
    from workbench_analyses.sinks.result import SinkScan


def massive_blocks(scan: SinkScan) -> list[Block]:
    """The largest activations behind each layer, and the tokens that stand out in the sink dimensions."""
    c, m = scan.config, scan.natural.massive
    layers = list(range(scan.scores.n_layers))
    text = m["values"][..., 0].argmax(0)
    with np.errstate(divide="ignore"):
        tops = [np.log10(m["values"][text, layers, i]) for i in range(3)]
        median = np.log10(m["median"][text, layers])
    names = ("largest |h|", "second", "third", "median")
    series = [
        Series(name, layers, [float(v) if np.isfinite(v) else float("nan") for v in y])
        for name, y in zip(names, (*tops, median), strict=True)
    ]
    found = scan.natural.massive_layers(c.massive_least, c.massive_ratio)
    said = f"after layers {', '.join(map(str, found))}; sink dimensions {scan.dims}" if found else "none"
    rule = f"massive: |h| > {c.massive_least:g} and ≥ {c.massive_ratio:g} × median: {said}"
    curves = Curves(
        series, "layer", "log₁₀ |h| of the residual stream", rule, y_range=None, digits=2,
        caption=f"Behind each layer, of the text with its largest activation; {rule}.",
    )  # fmt: skip
    caption = "The three largest |h| behind each layer, and where they stand."
    columns = ("layer", "largest", "second", "third", "dimension at position", "median", "ratio", "massive")
    numbers = Table(columns, massive_rows(scan.natural, c.massive_least, c.massive_ratio), caption, digits=2)
    return [curves, numbers, *([_phi(scan)] if scan.dims else [])]


def _phi(scan: SinkScan) -> Table:
    rows: list[list[Cell]] = [
        [visible(scan.words[token]), texts, layers, most]
        for token, texts, layers, most in scan.natural.phi_tokens(scan.tau)
    ]
    caption = f"Tokens with Φ > τ = {scan.tau:.2f} in the sink dimensions {scan.dims}; {len(scan.natural.first)} texts."
    return Table(("token", "texts", "layers", "largest Φ"), rows, caption, digits=2)
