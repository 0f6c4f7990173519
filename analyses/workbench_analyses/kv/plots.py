"""Quality against cost: one curve a policy, only where it saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.views import Curves, Points, Scatter, Series

if TYPE_CHECKING:
    from workbench_analyses.kv.result import Simulation

AXES = {
    "kept": "key-value entries kept (share of the full cache)",
    "read": "key-value entries read a decoding step (share of the full cache)",
    "prefill_share": "attention products of the prefill (share of plain attention)",
}
SIX = 6
"""Curves that can be told apart."""


def pareto(result: Simulation, cost: str) -> list[Curves]:
    """Recall against a cost; several figures where there are more than six policies."""
    every = list(result.on_plot(cost).items())
    out = []
    for start in range(0, len(every), SIX):
        series = []
        for text, points in every[start : start + SIX]:
            y, low, high = zip(*(p.recall for p in points), strict=True)
            series.append(Series(text, [p.mean(cost) for p in points], y, low, high))
        finding = "; ".join(f"{s.name}: {s.y[0]:.2f} at {s.x[0]:.2f}" for s in series)
        caption = (
            f"n = {result.config.samples} needles; bands: 95 % Wilson intervals. Policies appear only where they save."
        )
        out.append(Curves(series, AXES[cost], "needle recall", finding, caption=caption))
    return out


def published(result: Simulation) -> list[Scatter]:
    """The published constants, a point each, by what is kept and by what is read."""
    points, out = result.published, []
    for cost in ("kept", "read"):
        some = [p for p in points if p.saves(cost)]
        if some:
            group = Points(
                "published constants", [p.mean(cost) for p in some], [p.mean("recall") for p in some],
                [p.text for p in some], named=True,
            )  # fmt: skip
            finding = "; ".join(f"{p.text}: {p.mean('recall'):.2f} at {p.mean(cost):.2f}" for p in some)
            out.append(
                Scatter([group], AXES[cost], "needle recall", finding, caption="Not at equal budgets: see the table.")
            )
    return out
