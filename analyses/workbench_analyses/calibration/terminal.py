"""How a calibration is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.heads import Head
from workbench_analyses.calibration.measured import Given, Judged

if TYPE_CHECKING:
    from workbench.controls import Heads
    from workbench_analyses.calibration.result import Calibration

ROWS, NAMED = 6, 12
COLUMNS = ("head", "margin", "p", "q", "mended", "spoiled", "McNemar q", "parked")


def terminal(result: Calibration) -> Any:
    """Eligible pairs and verdict, the heads with the largest effects, the held-out half, where the report lies."""
    from rich.console import Group
    from rich.text import Text

    tried = f"layers {', '.join(map(str, result.layers))} of {result.n_layers}"
    lines: list[Any] = [Text(result.model_label, style="bold"), Text(result.verdict), ""]
    if isinstance(result.measured, Given):
        lines += [Text(f"{result.measured.source}: {_listed(result.heads)}"), Text(tried)]
    else:
        lines += [_heads(result), Text(f"{tried}; {result.measured.power}")]
    lines += [
        "",
        _lists(result),
        Text(f"\n{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"),
    ]
    if result.path:
        lines += [Text(result.unlisted)] if result.unlisted else []
        lines.append(Text(f"{result.path}/report.html"))
    return Group(*lines)


def _listed(heads: Heads) -> str:
    """The first heads of a list."""
    more = f" and {len(heads) - NAMED} more" if len(heads) > NAMED else ""
    return " ".join(str(Head(*h)) for h in heads[:NAMED]) + more


def _heads(result: Calibration) -> Any:
    from rich.table import Table

    a = result.alone
    accuracy = float((a.margin > 0).mean())
    title = f"each head calibrated alone, n = {a.n}, accuracy {accuracy:.1%} without; change of the margin in nats"
    table = Table(title=title, title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    rows = result.top()
    for row in [*rows[:ROWS], *[r for r in rows[ROWS:] if r["gain"] < 0][-ROWS:]]:
        table.add_row(
            f"L{row['layer']}H{row['head']}", f"{row['gain']:+.3f}", f"{row['p']:.2g}", f"{row['q']:.2g}",
            str(row["mended"]), str(row["spoiled"]), f"{row['mcnemar_q']:.2g}", f"{row['parked']:.0%}",
        )  # fmt: skip
    return table


def _list_rows(result: Calibration) -> list[tuple[str, str, str, str, str]]:
    """The held-out half, a line a list: name, accuracy, gain, mended and spoiled, p."""
    j = result.judgement
    out = [("no edit", f"{j.accuracy:.1%}", "", "", "")]
    if j.chosen is not None:
        kind = "given" if isinstance(result.measured, Given) else "chosen"
        out.append(_row(f"the {len(result.heads)} {kind}", j.chosen))
    if j.controls:
        gains = np.array([c.gain for c in j.controls])
        accuracy = float(np.mean([c.accuracy for c in j.controls]))
        many = "matched lists (all)" if j.enumerated else "matched random lists"
        spread = f"{gains.mean():+.3f} ({gains.min():+.3f} to {gains.max():+.3f})"
        out.append((f"{len(gains)} {many}", f"{accuracy:.1%}", spread, "", ""))
    return [*out, _row(f"all {len(result.tried)} heads", j.every)]


def _row(name: str, judged: Judged) -> tuple[str, str, str, str, str]:
    return (
        name, f"{judged.accuracy:.1%}", f"{judged.gain:+.3f}", f"{judged.mended} / {judged.spoiled}", f"{judged.p:.2g}",
    )  # fmt: skip


def _lists(result: Calibration) -> Any:
    from rich.table import Table

    title = f"held-out half, n = {result.judgement.n}"
    table = Table(title=title, title_justify="left")
    for name in LISTS:
        table.add_column(name, justify="right" if name != "calibrated" else "left")
    for row in _list_rows(result):
        table.add_row(*row)
    return table


LISTS = ("calibrated", "accuracy", "margin (nats)", "mended / spoiled", "p")
