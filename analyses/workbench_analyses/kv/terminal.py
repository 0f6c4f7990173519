"""How a simulation is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench_analyses.kv.measured import Point, told_budget

if TYPE_CHECKING:
    from workbench_analyses.kv.result import Simulation

COLUMNS = ("policy", "budget", "kept", "read", "prefill", "recall", "KL", "top-1", "perplexity", "random lists")
WHOLE = ("policy", "recall")
"""Columns whose cells are never broken."""


def terminal(result: Simulation) -> Any:
    """The verdict, a line a point, what was refused, where the report lies."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"budgets are shares of {told_budget(result.setting)}", title_justify="left")
    rows = [row(p) | {short(t): f"{p.mean('score', t):.2f}" for t in result.tasks} for p in result.points]
    shown = [name for name in COLUMNS if name != "prefill" or result.on_plot("prefill_share")]
    shown += [short(task) for task in result.tasks]
    for name in shown:
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=name in WHOLE)
    for cells in rows:
        table.add_row(*(cells[name] for name in shown))
    lines: list[Any] = [Text(result.model_label, style="bold"), Text(result.verdict), "", table]
    lines += [Text(f"heads under test: {result.source}")]
    if result.tasks:
        full = ", ".join(f"{short(task)} {result.full_score(task):.2f}" for task in result.tasks)
        lines.append(Text(f"with the full cache: {full}"))
    lines += [Text(f"left out: {line}") for line in result.refused]
    lines.append(Text(f"{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"))
    if result.path:
        lines.append(Text(f"{result.path}/report.html"))
    return Group(*lines)


def short(task: str) -> str:
    """A task of RULER as a column."""
    return task.removeprefix("niah_")


def row(point: Point) -> dict[str, str]:
    """A point as it stands in a table, by column."""
    recall, low, high = point.recall
    cells = (
        point.text, "published" if point.budget is None else f"{point.budget:g}",
        *(f"{point.mean(name):.3f}" for name in ("kept", "read", "prefill_share")),
        f"{recall:.2f} [{low:.2f}, {high:.2f}]", f"{point.mean('kl'):.3f}", f"{point.mean('agree'):.2f}",
        f"{point.perplexity[0]:.2f}",
        "" if point.p is None else f"{np.mean(point.controls):.2f} (p {point.p:.2g})",
    )  # fmt: skip
    return dict(zip(COLUMNS, cells, strict=True))
