"""How an atlas is shown in a terminal: the best heads of every score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.heads import Head
from workbench_analyses.atlas_parts.result import best

if TYPE_CHECKING:
    from workbench_analyses.atlas_parts.result import HeadAtlas
    from workbench_analyses.atlas_parts.side import Score, Side

SHOWN = 3


def terminal(result: HeadAtlas) -> Any:
    """A table a model, what was left out and why, where the page lies."""
    from rich.console import Group
    from rich.text import Text

    lines: list[Any] = []
    for side in result.sides:
        lines += [Text(side.label, style="bold"), *map(Text, side.notes), _table(side)]
        lines += [Text(f"left out, {name}: {why}") for name, why in side.left_out.items()]
    lines.append(Text("Scores say where heads look, not what they cause: not validated."))
    cost = f"{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"
    lines.append(Text(cost if result.path is None else f"{cost}\n{result.path}/report.html"))
    return Group(*lines)


def _table(side: Side) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="highest heads (of the first the 95 % interval over texts or prompts)", title_justify="left")
    for name in ("score", "version", "n", *(f"{i}." for i in range(1, SHOWN + 1))):
        table.add_column(name, justify="right" if name == "n" else "left")
    for score in side.scores:
        found = [_said(score, h, i == 0) for i, h in enumerate(best(score, SHOWN))]
        table.add_row(*map(Text, (score.measure.title, score.version, str(score.estimate.n), *found)))
    return table


def _said(score: Score, head: Head, bounds: bool) -> str:
    e = score.estimate
    value = f"{head} {_short(e.values[head])}"
    return f"{value} ({_short(e.low[head])}–{_short(e.high[head])})" if bounds and not np.isnan(e.low[head]) else value


def _short(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"
