"""How a retrieval scan is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.keeping import ENOUGH
from workbench.views.masking import band

if TYPE_CHECKING:
    from workbench.keeping import Keeping
    from workbench.reasoning import Reasoning
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
    lines += [Text(line) for line in focus_lines(scan)]
    if scan.validation:
        lines += ["", _curves(scan.validation), Text(_told(scan.validation))]
    if scan.proved.keeping:
        lines += ["", _kept(scan.proved.keeping), Text(enough(scan.proved.keeping))]
    if scan.proved.reasoning:
        lines += ["", *_reasoned(scan.proved.reasoning)]
    lines.append(Text(f"near ties: {scan.ties}"))
    cost = f"{scan.cost['scan_seconds']:.0f} s scan, {scan.cost['proof_seconds']:.0f} s proof"
    lines += ["", Text(f"{cost}, {scan.cost['peak_memory_mib']:.0f} MiB at most")]
    if scan.path:
        lines.append(Text(f"{scan.path}/report.html"))
    return Group(*lines)


def _heads(scan: Scan) -> Any:
    from rich.table import Table

    title = f"retrieval score, {scan.scores.n} samples, 95 % interval over needles"
    table = Table(title=title, title_justify="left")
    for name in ("head", "score", "interval", "needle mass", "QRHead", "induction"):
        table.add_column(name, justify="right")
    (low, high), mass, qr = scan.scores.interval(), *(scan.companions[name].values for name in ("mass", "qrhead"))
    for h in scan.scores.top(ROWS):
        figures = (f"{mass[h]:.2f}", f"{qr[h]:.3f}", f"{scan.repeats.induction[h]:.2f}")
        interval = f"{low[h]:.2f}–{high[h]:.2f}"
        table.add_row(str(h), f"{scan.scores.values[h]:.2f}", interval, *figures)
    return table


def focus_lines(scan: Scan) -> list[str]:
    """QRHead in a line: its best head, and how far it agrees with the list."""
    scores, agreed = scan.companions["qrhead"], scan.focus
    if not scores.scored.any():
        return ["QRHead: not scored, the vocabulary holds no null query"]
    best, (low, high) = scores.rank()[0], scores.interval()
    figures = f"{scores.values[best]:.3f} ({low[best]:.3f}–{high[best]:.3f})"
    line = f"QRHead: best {best} {figures}, {scores.n} samples, null query “{scores.parameters['null_query']}”"
    if agreed is None:
        return [line]
    shared = f"{agreed.overlap} of its top {agreed.k} are the copy score's (p = {agreed.p_overlap:.2g})"
    return [f"{line}; {shared}"]


def _kept(v: Keeping) -> Any:
    from rich.table import Table

    window = f"all others see the first {v.sink} and the last {v.recent} tokens"
    table = Table(title=f"{v.metric} with K heads full; {window}; n = {v.n} needles outside", title_justify="left")
    for name in ("K", "top", "matched random (95 %)", "q", "all layers"):
        table.add_column(name, justify="right")
    for p in v.points:
        free = f"{np.mean(p.all_layers):.2f}" if p.all_layers else "–"
        table.add_row(str(p.k), f"{p.top:.2f}", _matched(p.matched), "–" if p.q is None else f"{p.q:.3f}", free)
    return table


def enough(v: Keeping) -> str:
    """Where keeping suffices, between what no head and all heads give."""
    at = f"K = {v.enough_at} full heads are enough" if v.enough_at else "no K is enough"
    return f"{at} for {100 * ENOUGH:.0f} % of the recall with all heads full ({v.full:.2f}; with none {v.none:.2f})"


def _reasoned(v: Reasoning) -> list[Any]:
    from rich.table import Table
    from rich.text import Text

    if v.not_scored:
        return [Text(f"chain of thought against direct answers: not scored: {v.not_scored}")]
    title = f"share answered with K heads masked; unmasked {v.thought:.2f} reasoned, {v.direct:.2f} at once; n = {v.n}"
    table = Table(title=title, title_justify="left")
    for name in ("K", "reasoned", "at once", "more lost (95 %)", "matched random (95 %)", "q"):
        table.add_column(name, justify="right")
    for p in v.points:
        more = f"{p.more:+.2f} ({p.low:+.2f} to {p.high:+.2f})"
        q = "–" if p.q is None else f"{p.q:.3f}"
        table.add_row(str(p.k), f"{p.thought:.2f}", f"{p.direct:.2f}", more, _matched(p.matched), q)
    return [table]


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
