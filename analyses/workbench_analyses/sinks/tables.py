"""The tables of a sink scan as rows of plain values, for the terminal, the report and machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench.sinks import HELD, LEAST_QUERIES
from workbench_analyses.sinks.against import Against
from workbench_analyses.sinks.causal import EVERY, OPS
from workbench_analyses.sinks.passes import is_massive

if TYPE_CHECKING:
    from workbench_analyses.sinks.found import Found
    from workbench_analyses.sinks.result import SinkScan


class RuleRow(NamedTuple):
    """What a rule flags on one kind of texts. keys: mean over texts of all flagged (layer, head, key). heads: with a
    flagged key in at least half of the texts."""

    texts: str
    rule: str
    keys: float
    heads: int


def rule_rows(scan: SinkScan) -> list[RuleRow]:
    """All rules side by side."""
    c, out = scan.config, []
    for found in (scan.natural, scan.random):
        flags = {
            f"corrected: α > {c.a:g}·u, at least {LEAST_QUERIES} queries, half of them": found.flagged(),
            f"paper: α > {c.a:g}/N = {c.a / c.tokens:.3f}": found.paper,
            f"authors' code: α > {c.absolute:g}": found.absolute,
            f"first token: α > ε = {c.epsilon:g}": (found.first > c.epsilon).astype(float),
        }
        for rule, counts in flags.items():
            keys, heads = np.nansum(counts) / len(counts), int(((counts > 0).mean(0) >= HELD).sum())
            out.append(RuleRow(found.texts.kind, rule, float(keys), heads))
    return out


def massive_rows(found: Found, least: float, ratio: float) -> list[list[Any]]:
    """By layer: the largest |h| over all texts with its dimension and token position, median, ratio, whether massive."""
    m, flags, out = found.massive, is_massive(found.massive, least, ratio), []
    for layer in range(m["values"].shape[1]):
        text = int(m["values"][:, layer, 0].argmax())
        top, median = m["values"][text, layer, :3], float(m["median"][text, layer])
        share = float(top[0] / median) if median > 0 else float("nan")
        where = ", ".join(
            f"{int(d)} at {int(p)}"
            for d, p in zip(m["dims"][text, layer, :3], m["positions"][text, layer, :3], strict=True)
        )
        out.append([f"{layer}", *map(float, top), where, median, share, "yes" if flags[:, layer].any() else "no"])
    return out


def summary(scan: SinkScan) -> dict[str, Any]:
    """The scan as plain values."""
    low, high = scan.scores.interval()
    c, against = scan.config, scan.against
    return {
        "model": scan.model_label, "verdict": scan.verdict, "conditions": scan.conditions,
        "top": [
            {"layer": h.layer, "head": h.head, "first_token": float(scan.scores.values[h]), "low": float(low[h]),
             "high": float(high[h]), "hidden_per_text": float(scan.companions["hidden"].values[h])}
            for h in scan.scores.top(10)
        ],
        "parked": [
            {"layer": p.head.layer, "head": p.head.head, "token": scan.words[p.token], "first": p.first,
             "received": p.received, "texts": p.rate}
            for p in scan.parked
        ],
        "tokens": [t._asdict() | {"token": scan.words[t.token]} for t in scan.natural.by_token()[:20]],
        "rules": [row._asdict() for row in rule_rows(scan)],
        "epsilon_rate": {"T": c.epsilon_tokens, "natural": scan.epsilon_rate(scan.natural),
                         "random": scan.epsilon_rate(scan.random)},
        "massive": {"layers": scan.natural.massive_layers(c.massive_least, c.massive_ratio), "dimensions": scan.dims,
                    "tau": scan.tau},
        "learned_sink": {k: float(np.nanmean(s.values)) for k, s in scan.companions.items() if k == "learned"} or None,
        "checks": [_check(scan, i) for i in range(len(scan.checks))] or "not validated",
        "retrieval": _against(scan, against) if isinstance(against, Against) else against,
        "cost": scan.cost, "run": scan.path,
    }  # fmt: skip


def _check(scan: SinkScan, i: int) -> dict[str, Any]:
    check = scan.checks[i]
    changes = {
        op: {what: check.change(op, what) for what in ("loss", "kl", "control_loss", "control_kl")} for op in EVERY
    }
    head = check.parked.head
    return {
        "layer": head.layer, "head": head.head, "token": scan.words[check.parked.token], "parks": not scan.near,
        "verdict": scan.told(check), "says": check.says, "controls": [list(h) for h in check.controls],
        "changes": changes,
        "more_than_controls": {op: check.beyond[op, scan.measure]._asdict() for op in EVERY},
    }  # fmt: skip


def _against(scan: SinkScan, against: Against) -> dict[str, Any]:
    first, any_place = (x.compare(against.retrieval).spearman for x in (scan.scores, scan.companions["strongest"]))
    parking = {}
    for head in against.retrieval_heads():
        asked, idle, change = against.parking(head)
        parking[str(head)] = {"with_needle": asked, "without": idle, "change": change}
    return {
        "spearman": {"first_token": first, "strongest_sink": any_place},
        "samples": against.n, "recall": against.unedited()._asdict(), "parking": parking,
        "recall_edited": {
            str(h): {op: r and r._asdict() for op in OPS for r in [against.recalled(h, op)]} for h in against.recall
        },
    }  # fmt: skip
