"""How a fit of windows is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench_analyses.windows.checked import Checked

if TYPE_CHECKING:
    from workbench_analyses.windows.result import FittedWindows

COLUMNS = ("tolerance", "rule", "kept", "recall", "KL", "top-1", "perplexity", "dealt anew: recall", "KL", "p")


def terminal(result: FittedWindows) -> Any:
    """The verdict, heads by window, a line a check, what was refused, how it is exported."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title="checked end to end, at equal entries within a tolerance", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "rule" else "right")
    for check in result.checks:
        table.add_row(*row(check))
    lines: list[Any] = [
        Text(result.model_label, style="bold"),
        Text(result.verdict),
        "",
        Text(by_window(result)),
        table,
    ]
    lines += [Text(f"left out: {line}") for line in result.refused]
    lines.append(Text(f"{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"))
    if result.path:
        lines += [
            Text(f"{result.path}/report.html"),
            Text(f"to a server: workbench export {result.path} format=head-windows"),
        ]
    return Group(*lines)


def by_window(result: FittedWindows) -> str:
    """How many heads have which window."""
    counts = [f"{int((result.found == w).sum())} of {w}" for w in result.windows if (result.found == w).any()]
    whole = int((result.found == result.config.context).sum())
    return f"{result.found.size} key-value heads: {', '.join([*counts, f'{whole} need everything'])}"


def row(check: Checked) -> tuple[str, ...]:
    """A check as it stands in a table."""
    point, (recall, low, high) = check.point, check.point.recall
    dealt = [f"{np.mean(check.of_deals(field)):.3g}" if check.dealt else "" for field in ("recall", "kl")]
    return (
        f"{check.tolerance:g}", check.name, f"{check.kept:.3f}", f"{recall:.2f} [{low:.2f}, {high:.2f}]",
        f"{point.mean('kl'):.3g}", f"{point.mean('agree'):.2f}", f"{point.perplexity[0]:.2f}", *dealt,
        "" if check.p is None else f"{check.p:.2g}",
    )  # fmt: skip
