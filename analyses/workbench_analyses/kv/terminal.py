"""How a simulation is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench_analyses.kv.measured import Point, told_budget

if TYPE_CHECKING:
    from workbench_analyses.kv.result import Simulation

COLUMNS = ("policy", "budget", "kept", "read", "peak", "prefill", "recall", "KL", "top-1", "perplexity", "random lists")


def terminal(result: Simulation) -> Any:
    """The verdict, a line a point, what was refused, where the report lies."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"budgets are shares of {told_budget(result.setting)}", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=name == "policy")
    for point in result.points:
        table.add_row(*row(point))
    lines: list[Any] = [Text(result.model_label, style="bold"), Text(result.verdict), "", table]
    lines += [Text(f"heads under test: {result.source}")]
    lines += [Text(f"left out: {line}") for line in result.refused]
    lines.append(Text(f"{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"))
    if result.path:
        lines.append(Text(f"{result.path}/report.html"))
    return Group(*lines)


def row(point: Point) -> tuple[str, ...]:
    """A point as it stands in a table."""
    recall, low, high = point.recall
    lists = "" if point.p is None else f"{np.mean(point.controls):.2f} (p {point.p:.2g})"
    shares = (f"{point.mean(name):.3f}" for name in ("kept", "read", "peak", "prefill_share"))
    return (
        point.text, "published" if point.budget is None else f"{point.budget:g}", *shares,
        f"{recall:.2f} [{low:.2f}, {high:.2f}]", f"{point.mean('kl'):.3f}", f"{point.mean('agree'):.2f}",
        f"{point.perplexity[0]:.2f}", lists,
    )  # fmt: skip
