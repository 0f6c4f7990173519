"""How a calibration is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from workbench_analyses.calibration.result import Calibration, Judged

ROWS = 6
COLUMNS = ("head", "margin", "p", "q", "mended", "spoiled", "McNemar q", "parked")


def terminal(result: Calibration) -> Any:
    """Eligible pairs and verdict, the heads with the largest effects, the held-out half, where the report lies."""
    from rich.console import Group
    from rich.text import Text

    tried = f"layers {', '.join(map(str, result.layers))} of {result.n_layers}"
    lines: list[Any] = [
        Text(result.model_label, style="bold"), Text(result.verdict), "", _heads(result),
        Text(f"{tried}; {result.alone.power}"), "", _lists(result),
        Text(f"\n{result.cost['seconds']:.0f} s, {result.cost['peak_memory_mib']:.0f} MiB at most"),
    ]  # fmt: skip
    if result.path:
        lines.append(Text(f"{result.path}/report.html"))
    return Group(*lines)


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


def list_rows(result: Calibration) -> list[tuple[str, str, str, str, str]]:
    """The held-out half, a line a list: name, accuracy, gain, mended and spoiled, p."""
    j = result.judgement
    out = [("no edit", f"{j.accuracy:.1%}", "", "", "")]
    if j.chosen is not None:
        out.append(_row(f"the {len(result.alone.helpful)} chosen", j.chosen))
    if j.controls:
        gains = np.array([c.gain for c in j.controls])
        accuracy = float(np.mean([c.accuracy for c in j.controls]))
        many = "matched lists (all)" if j.enumerated else "matched random lists"
        spread = f"{gains.mean():+.3f} ({gains.min():+.3f} to {gains.max():+.3f})"
        out.append((f"{len(gains)} {many}", f"{accuracy:.1%}", spread, "", ""))
    return [*out, _row(f"all {len(result.alone.heads)} heads", j.every)]


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
    for row in list_rows(result):
        table.add_row(*row)
    return table


LISTS = ("calibrated", "accuracy", "margin (nats)", "mended / spoiled", "p")
