"""Rows that the terminal, the report and the summary share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench_analyses.visual.result import VisualScan

TOP = 10
"""Heads of each score in the summary."""
Triple = tuple[float, float, float]


def chair_rows(scan: VisualScan) -> list[tuple[str, Triple, Triple, Triple, Triple, Triple, float, float]]:
    """By kind: CHAIR_S, CHAIR_I, CHAIR_I distinct, recall, words a caption; unique words, repeated sentences."""
    out = []
    for kind, chair in scan.behaviour.chair.items():
        found = scan.behaviour.intervals[kind]
        figures = (tuple(found[n]) for n in ("chair_s", "chair_i", "chair_i_distinct", "recall", "length"))
        out.append((kind, *figures, chair.unique_words, chair.repeated_sentences))
    return out


def pope_rows(scan: VisualScan) -> list[list[Any]]:
    """By kind and strategy: questions, accuracy, precision, recall, F1, yes-ratio, false yes, unparsed."""
    out = []
    for kind, by in scan.behaviour.pope.items():
        for strategy, p in by.items():
            accuracy = tuple(scan.behaviour.pope_accuracy[kind][strategy])
            out.append(
                [kind, strategy, p.n, accuracy, p.precision, p.recall, p.f1, p.yes_ratio, p.false_yes, p.unparsed]
            )
    return out


def partner_rows(scan: VisualScan) -> list[list[Any]]:
    """What is said of absent partners, a name and a figure each; none where there is no ideal observer."""
    p = scan.behaviour.partner
    if p is None:
        return []
    return [
        ["yes to absent partners", tuple(p.false_yes)], ["yes of the ideal observer", p.ideal],
        ["in excess of it", tuple(p.excess)], ["AUC of log p(yes) − log p(no)", tuple(p.auc)],
    ]  # fmt: skip


def summary(scan: VisualScan) -> dict[str, Any]:
    """The scan as plain values."""
    tops = {}
    for name, scores in scan.scores.items():
        low, high = scores.interval()
        tops[name] = [
            {"layer": h.layer, "head": h.head, "score": float(scores.values[h]), "low": float(low[h]), "high": float(high[h])}
            for h in scores.top(TOP)
        ]  # fmt: skip
    table = scan.table
    return {
        "model": scan.model_label, "verdict": scan.verdict, "conditions": scan.conditions,
        "behaviour": scan.behaviour.summary(), "top": tops, "left_out": dict(scan.heads.left_out),
        "samples": {name: scores.n for name, scores in scan.scores.items()},
        "agreement": [a._asdict() for a in scan.agreements],
        "t_vhd": {name: {**figure._asdict(), "n": n} for name, (figure, n) in scan.t_vhd().items()},
        "visual_sinks": {"dimensions": list(scan.heads.dims), "tau": scan.heads.tau, "share": scan.heads.sinks},
        "validation": table if isinstance(table, str) else table.summary(),
        "skipped": list(scan.skipped), "cost": scan.cost, "run": scan.path,
    }  # fmt: skip
