"""How a visual scan is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.terminal_table import terminal_table
from workbench_analyses.visual.tables import chair_rows, partner_rows, pope_rows

if TYPE_CHECKING:
    from workbench_analyses.visual.result import VisualScan

ROWS = 8


def terminal(scan: VisualScan) -> Any:
    """Finding, behaviour, heads, agreement, where the report lies."""
    from rich.console import Group
    from rich.text import Text

    lines: list[Any] = [Text(scan.model_label, style="bold"), Text(scan.verdict), Text(scan.conditions)]
    lines += ["", _chair(scan), _pope(scan)]
    if scan.behaviour.partner is not None:
        p = scan.behaviour.partner
        said = "; ".join(f"{name} {_figure(x)}" for name, x in partner_rows(scan))
        lines.append(Text(f"{said} ({p.n} questions about {p.pictures} scenes)"))
    lines += ["", _heads(scan), Text(_agreement(scan)), Text(_words(scan))]
    lines += [Text(f"{scan.names[name]} left out: {why}") for name, why in scan.heads.left_out.items()]
    c = scan.cost
    spent = ", ".join(f"{c[f'{n}_seconds']:.0f} s {n}" for n in ("behaviour", "score", "table"))
    lines += ["", Text(f"{spent}, {c['peak_memory_mib']:.0f} MiB at most")]
    if scan.path:
        lines.append(Text(f"{scan.path}/report.html"))
    return Group(*lines)


def _chair(scan: VisualScan) -> Any:
    rows = [
        [kind, *(_figure(x) for x in figures), f"{length[0]:.1f}", f"{unique:.2f}", _figure(repeated)]
        for kind, *figures, length, unique, repeated in chair_rows(scan)
    ]
    columns = ("captions", "CHAIR_S", "CHAIR_I", "CHAIR_I distinct", "recall", "words", "unique words", "said twice")
    return terminal_table("captions, nothing done to the model (95 % interval over pictures)", columns, rows)


def _pope(scan: VisualScan) -> Any:
    rows = [
        [kind, strategy, str(n), *map(_figure, (accuracy, yes, false, unparsed))]
        for kind, strategy, n, accuracy, _, _, _, yes, false, unparsed in pope_rows(scan)
    ]
    columns = ("questions (POPE)", "negatives", "n", "accuracy", "says yes", "yes to absent", "unparsed")
    return terminal_table("is there a … ?", columns, rows, left=2)


def _heads(scan: VisualScan) -> Any:
    names = [n for n in ("vhd", "vhd_blank", "image_mass", "causal_contrast", "localisation") if n in scan.scores]
    bounds = {n: scan.scores[n].interval() for n in names}
    rows = []
    for h in scan.scores["vhd"].top(ROWS):
        row = [str(h)]
        for n in names:
            value, (low, high) = scan.scores[n].values[h], bounds[n]
            row.append("–" if np.isnan(value) else f"{value:z.2f} ({low[h]:z.2f} to {high[h]:z.2f})")
        rows.append(row)
    n = scan.scores["vhd"].n
    return terminal_table(
        f"heads by VHD (95 % interval over {n} pictures)", ("head", *(scan.names[n] for n in names)), rows
    )


def _agreement(scan: VisualScan) -> str:
    said = [
        f"{scan.names[a.second if a.first == 'vhd' else a.first]} {a.spearman:.2f} ({a.low:.2f} to {a.high:.2f})"
        for a in scan.agreements
        if "vhd" in (a.first, a.second) and not np.isnan(a.spearman)
    ]
    return f"Spearman with VHD: {', '.join(said)}"


def _words(scan: VisualScan) -> str:
    told = scan.t_vhd()
    said = ", ".join(f"{name} {f.value:.2f} ({f.low:.2f} to {f.high:.2f}, n = {n})" for name, (f, n) in told.items())
    return f"T-VHD of words: {said}"


def _figure(x: Any) -> str:
    if isinstance(x, tuple):
        value, low, high = x
        return "–" if np.isnan(value) else f"{value:.3f} ({low:.3f} to {high:.3f})"
    return "–" if np.isnan(x) else f"{x:.3f}"
