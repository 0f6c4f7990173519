"""How a sink scan is shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.terminal_table import terminal_table
from workbench.views.text import visible
from workbench_analyses.sinks.against import Against
from workbench_analyses.sinks.causal import DECIDING, OPS, SINKS
from workbench_analyses.sinks.deciding import Difference
from workbench_analyses.sinks.tables import rule_rows

if TYPE_CHECKING:
    from workbench_analyses.sinks.result import SinkScan

ROWS = 10


def terminal(scan: SinkScan) -> Any:
    """Verdict, heads, sink tokens, rules side by side, the causal check, retrieval, where the report lies."""
    from rich.console import Group
    from rich.text import Text

    rate = f"Sink^ε × 100 at T = {scan.config.epsilon_tokens}, ε = {scan.config.epsilon:g}: "
    rate += ", ".join(f"{scan.epsilon_rate(f):.1f} {f.texts.kind}" for f in (scan.natural, scan.random))
    lines: list[Any] = [Text(scan.model_label, style="bold"), Text(scan.verdict), Text(scan.conditions)]
    lines += ["", _heads(scan), Text(rate), "", _tokens(scan), "", _rules(scan), Text(_massive(scan))]
    if scan.checks:
        lines += ["", _checks(scan)]
    lines += ["", Text(_retrieval(scan))]
    cost = f"{scan.cost['scan_seconds']:.0f} s scan, {scan.cost['proof_seconds']:.0f} s proof"
    lines += ["", Text(f"{cost}, {scan.cost['peak_memory_mib']:.0f} MiB at most")]
    if scan.path:
        lines.append(Text(f"{scan.path}/report.html"))
    return Group(*lines)


def _heads(scan: SinkScan) -> Any:
    (low, high), hidden = scan.scores.interval(), scan.companions["hidden"].values
    parked, learned = {p.head: p for p in scan.parked}, scan.companions.get("learned")
    listed = [*parked][:ROWS] or list(scan.scores.top(5))
    rows = []
    for h in listed:
        p = parked.get(h)
        row = [str(h), _said(scan, p.token) if p else "–", f"{p.received:.2f}" if p else "–"]
        row += [f"{scan.scores.values[h]:.2f}", f"{low[h]:.2f}–{high[h]:.2f}", f"{hidden[h]:.1f}"]
        rows.append([*row, f"{learned.values[h]:.2f}"] if learned else row)
    columns = ("head", "parks on", "receives", "first token", "interval", "hidden a text")
    more = f"; {len(parked) - ROWS} more in the report" if len(parked) > ROWS else ""
    title = "heads that park" if parked else "no head parks; nearest by attention to the first token"
    return terminal_table(
        f"{title} (95 % interval over texts){more}", (*columns, "learned sink") if learned else columns, rows, left=0
    )


def _tokens(scan: SinkScan) -> Any:
    rows = [
        [_said(scan, t.token), "first" if t.first else f"{t.positions[0]}–{t.positions[1]}", str(t.pairs),
         f"{t.received:.2f}", _plain(t.value_ratio), _plain(t.key_ratio), _plain(t.says)]
        for t in scan.natural.by_token()[:5]
    ]  # fmt: skip
    columns = (
        "sink token",
        "positions",
        "(layer, head) pairs",
        "receives",
        "‖v‖ ÷ median",
        "‖k‖ ÷ median",
        "α·‖v‖ ÷ ‖z‖",
    )
    return terminal_table("corrected rule, natural texts", columns, rows, left=0)


def _rules(scan: SinkScan) -> Any:
    rows = [[r.texts, r.rule, f"{r.keys:.1f}", str(r.heads)] for r in rule_rows(scan)]
    return terminal_table("what each rule flags", ("texts", "rule", "keys a text, all heads", "heads"), rows, left=2)


def _massive(scan: SinkScan) -> str:
    c = scan.config
    layers = scan.natural.massive_layers(c.massive_least, c.massive_ratio)
    if layers:
        return f"massive activations after layers {', '.join(map(str, layers))} in dimensions {scan.dims}"
    top = float(scan.natural.massive["values"].max())
    rule = f"(> {c.massive_least:g} and ≥ {c.massive_ratio:g} × median)"
    return f"no massive activation {rule}: the largest |h| is {top:.1f}"


def _checks(scan: SinkScan) -> Any:
    what = "KL, nats" if scan.measure == "kl" else "change of loss, nats"
    rows = []
    for check in scan.checks:
        beyond = [check.beyond[op, scan.measure] for op in DECIDING]
        windows = [_plain(check.change(op, scan.measure)[0], 3) for op in OPS[len(DECIDING) :]]
        word, n = _said(scan, check.parked.token), str(max(d.n for d in beyond))
        q = ", ".join(f"{d.q:.2g}" for d in beyond)
        rows.append([str(check.parked.head), word, n, *map(_spread, beyond), q, *windows, scan.told(check)])
    columns = ("head", "sink", "n", "value 0", "key blocked", "q of both", *(f"window {s}" for s in SINKS), "verdict")
    title = (
        f"without the sink: {what}. value 0, key blocked: more than in other heads of the layer (95 % interval over n "
        "texts)"
    )
    return terminal_table(title, columns, rows, left=0)


def _spread(d: Difference) -> str:
    return f"{_plain(d.mean, 3)} ({_plain(d.low, 3)} to {_plain(d.high, 3)})"


def _retrieval(scan: SinkScan) -> str:
    if not isinstance(scan.against, Against):
        return scan.against
    against = scan.against.retrieval
    first, any_place = (x.compare(against).spearman for x in (scan.scores, scan.companions["strongest"]))
    heads, plain = scan.against.retrieval_heads(), scan.against.unedited()
    recall = f"needles recalled {plain.share:.2f} ({plain.low:.2f}–{plain.high:.2f}, n = {plain.n}); "
    blocked = [r for h in scan.against.recall if (r := scan.against.recalled(h, OPS[1])) is not None]
    if blocked:
        least = min(blocked)
        recall += f"with a key blocked, at least {least.share:.2f} ({least.low:.2f}–{least.high:.2f}, n = {least.n}); "
    said = (
        f"{recall}Spearman with the retrieval score: first-token attention {first:.2f}, strongest sink {any_place:.2f}"
    )
    if not heads:
        return f"{said}; no retrieval head"
    figures = [scan.against.parking(h)[:2] for h in heads]
    asked, idle = (float(np.nanmean([f[i] for f in figures])) for i in (0, 1))
    return f"{said}; {len(heads)} retrieval heads give their sink {asked:.2f} with a needle, {idle:.2f} without"


def _said(scan: SinkScan, token: int) -> str:
    return visible(scan.words[token])


def _plain(x: float, digits: int = 2) -> str:
    return "–" if np.isnan(x) else f"{x:z.{digits}f}"
