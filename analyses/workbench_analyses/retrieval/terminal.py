"""How a retrieval scan is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.views.masking import band

if TYPE_CHECKING:
    from workbench.validation import Validation
    from workbench_analyses.retrieval.result import Scan

ROWS = 10


def terminal(scan: Scan) -> Any:
    """Verdict, top heads with intervals, sparsity, masking curves, where the report lies."""
    from rich.console import Group
    from rich.text import Text

    lines: list[Any] = [Text(scan.model_label, style="bold"), Text(scan.verdict)]
    if scan.scores.n:
        lines += ["", _heads(scan), Text(scan.sparsity)]
    if scan.validation:
        lines += ["", _curves(scan.validation), Text(_told(scan.validation))]
    cost = f"{scan.cost['scan_seconds']:.0f} s scan, {scan.cost['proof_seconds']:.0f} s proof"
    lines += ["", Text(f"{cost}, {scan.cost['peak_memory_mib']:.0f} MiB at most")]
    if scan.path:
        lines.append(Text(f"{scan.path}/report.html"))
    return Group(*lines)


def _heads(scan: Scan) -> Any:
    from rich.table import Table

    title = f"retrieval score, {scan.scores.n} samples, 95 % interval over needles"
    table = Table(title=title, title_justify="left")
    for name in ("head", "score", "interval", "needle mass", "induction"):
        table.add_column(name, justify="right")
    (low, high), mass = scan.scores.interval(), scan.companions["mass"].values
    for h in scan.scores.top(ROWS):
        figures = (mass[h], scan.repeats.induction[h])
        interval = f"{low[h]:.2f}–{high[h]:.2f}"
        table.add_row(str(h), f"{scan.scores.values[h]:.2f}", interval, *(f"{x:.2f}" for x in figures))
    return table


def _curves(v: Validation) -> Any:
    from rich.table import Table

    head = f"{v.metric} with K heads masked ({v.ablation}; unmasked {v.base:.2f}; n = {v.n}; proof={v.proof})"
    table = Table(title=head, title_justify="left")
    for name in ("K", "top", "matched random (95 %)", "q", "all layers", "bottom", "loss off task"):
        table.add_column(name, justify="right")
    for p in v.points:
        free = f"{np.mean(p.all_layers):.2f}" if p.all_layers else "–"
        q = "–" if p.q is None else f"{p.q:.3f}"
        off = "–" if p.off_task is None else f"{p.off_task:.2f}"
        table.add_row(str(p.k), f"{p.top:.2f}", _matched(p.matched), q, free, f"{p.bottom:.2f}", off)
    return table


def _told(v: Validation) -> str:
    halves = f"recall halves at K = {v.halves_at}" if v.halves_at else "recall does not halve at any K"
    return (
        halves if v.off_task is None else f"{halves}; loss on prose without a needle, unmasked: {v.off_task:.2f} nats"
    )


def _matched(draws: tuple[float, ...]) -> str:
    if not draws:
        return "no control"
    low, high = band(draws)
    return f"{np.mean(draws):.2f} ({low:.2f}–{high:.2f}, {len(draws)} draws)"
