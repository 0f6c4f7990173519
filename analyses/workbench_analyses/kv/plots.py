"""Quality against cost: one curve a policy, only where it saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.views import Curves, Points, Scatter, Series

if TYPE_CHECKING:
    from workbench_analyses.kv.result import Simulation

AXES = {
    "kept": "entries kept, share of the full cache",
    "read": "entries read a step, share of the full cache",
    "prefill_share": "prefill products, share of plain attention",
}
SIX = 6
"""Curves that can be told apart."""
SAVING = "Policies appear only where they save."


def pareto(result: Simulation, cost: str, task: str = "needle") -> list[Curves]:
    """Recall (or the score of a task of RULER) against a cost; several figures where there are more than six policies."""
    every = list(result.on_plot(cost, task).items())
    needles = task == "needle"
    said = (
        f"n = {result.config.samples} needles; bands: 95 % Wilson intervals. {SAVING}" if needles else
        f"n = {result.asked(task)} rows; bands: 95 % bootstrap intervals; with the full cache {result.full_score(task):.2f}. "
        f"{SAVING}"
    )  # fmt: skip
    out = []
    for start in range(0, len(every), SIX):
        series = []
        for text, points in every[start : start + SIX]:
            values = [p.recall if needles else p.interval("score", task) for p in points]
            y, low, high = zip(*values, strict=True)
            series.append(Series(text, [p.mean(cost, task) for p in points], y, low, high))
        finding = "; ".join(f"{s.name}: {s.y[0]:.2f} at {s.x[0]:.2f}" for s in series)
        out.append(Curves(series, AXES[cost], "needle recall" if needles else f"score, {task}", finding, caption=said))
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
                Scatter(
                    [group],
                    AXES[cost],
                    "needle recall",
                    finding,
                    caption="Not at equal budgets: see the table.",
                    x_range=(0.0, 1.02),
                    y_range=(-0.06, 1.12),
                )
            )
    return out


def decoding(result: Simulation) -> list[Scatter]:
    """Seconds of attention against the entries that all decoded steps of the needles met, with the fitted line.

    None below 3 points.
    """
    points = result.evicting
    if len(points) < 3:
        return []
    entries, seconds = (np.array([p.work[i] for p in points]) for i in range(2))
    fit = result.decoding
    assert fit is not None
    millions = entries / 1e6
    low, high = float(millions.min()), float(millions.max())
    base, slope = fit["base_seconds"], fit["seconds_per_million_entries"]
    line = (low, base + slope * low, high, base + slope * high)
    labels = [f"{p.text} at {p.budget:g}" if p.budget is not None else p.label for p in points]
    group = Points("policies that evict, at all budgets", millions.tolist(), seconds.tolist(), labels)
    told = f"{slope:.3g} s a million entries, R² {fit['r_squared']:.3f}"
    return [
        Scatter(
            [group],
            "million entries that attention met",
            "seconds of attention",
            f"A line fits: {told}.",
            caption="Processor time of attention over what is kept: needles, all decoded steps, once a point.",
            segments=((line, told),),
        )
    ]
