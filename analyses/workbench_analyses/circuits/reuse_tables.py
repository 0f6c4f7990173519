"""The figures of a comparison as rows of text: the terminal and the page say the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from workbench.circuits import Place
from workbench.head_sets import Head
from workbench.views.text import number
from workbench_analyses.circuits.reuse_chance import Overlap

if TYPE_CHECKING:
    from workbench_analyses.circuits.reuse_result import Reuse

Rows = list[tuple[str, ...]]
OVERLAP = ("heads by", "A", "B", "shared", "∩ / min", "Jaccard", "chance", "p", "least p", "p flat")
SWEEP = ("threshold", "A", "B", "shared", "∩ / min", "Jaccard", "chance", "p")
CEILING = ("heads by", "A½ ∩ B½", "A½ ∩ A½′", "B½ ∩ B½′", "chance", "normalised reuse")
STAGES = ("stage", "labels", "A", "B", "shared", "p", "Spearman", "its p", "weighted overlap")
TRANSFER = ("heads kept", "n heads", "faithfulness", "quartiles over prompts", "random circuits", "p")


def overlap_rows(result: Reuse) -> Rows:
    """Every column, and heads in the same stage."""
    rows = []
    for name, column in result.columns.items():
        span = column.intervals
        rows.append((name, *_overlap(column.overlap, span and span.share, span and span.jaccard)))
    return [*rows, ("patching, same stage", *_overlap(result.matched, None, None))]


def sweep_rows(result: Reuse) -> Rows:
    """The patching columns at each threshold."""
    rows = []
    for one in result.sweep:
        span = one.intervals
        figures = _overlap(one.overlap, span and span.share, span and span.jaccard)
        rows.append((f"{one.tau:.1%}", *figures[:7]))
    return rows


def ceiling_rows(result: Reuse) -> Rows:
    """Halves of the prompts, as |A ∩ B| / min."""
    rows = []
    for name, column in result.columns.items():
        c = column.ceiling
        if c is None:
            rows.append((name, "n/a", "n/a", "n/a", "n/a", "not estimable: no effects prompt by prompt"))
            continue
        value = f"{c.reuse:.2f}" if c.reuse is not None else f"not estimable ({c.room:.2f} between chance and ceiling)"
        rows.append((name, _f(c.between), _f(c.within[0]), _f(c.within[1]), _f(c.chance), value))
    return rows


def stage_rows(result: Reuse) -> Rows:
    """Stages that both have, aligned by depth from the logits and channel."""
    return [
        (s.name, " / ".join(s.labels) if any(s.labels) else "", str(s.overlap.a), str(s.overlap.b), str(s.overlap.n),
         p_value(s.overlap.p), _f(s.spearman), p_value(s.p), _f(s.weighted))
        for s in result.stages
    ]  # fmt: skip


def transfer_rows(result: Reuse, index: int) -> Rows:
    """What each set does alone on one task's prompts."""
    rows = []
    for r in result.transfers[index].rows:
        f, controls, p = r.found, "", ""
        if r.randoms is not None:
            many = sorted(r.randoms.shares)
            controls = f"{_f(sum(many) / len(many))} ({_f(many[0])} to {_f(many[-1])}; {len(many)})"
            p = p_value(r.randoms.p) if r.randoms.p is not None else ""
        share = f"{_f(f.share)} [{_f(f.low)}, {_f(f.high)}]"
        rows.append((r.name, str(r.size), share, " · ".join(_f(q) for q in f.quartiles), controls, p))
    return rows


def role_rows(result: Reuse) -> tuple[tuple[str, ...], Rows]:
    """Columns and rows of the role confusion matrix: A down, B across; heads named where they are few."""
    down, across = (list(dict.fromkeys(pair[i] for pair in result.roles)) for i in (0, 1))
    rows = [
        (role, *(_named(result.roles.get((role, other), ())) for other in across)) for role in down
    ]  # fmt: skip
    return (f"{result.names[0]} ↓  {result.names[1]} →", *across), rows


def _named(heads: Sequence[Place]) -> str:
    return "" if not heads else f"{len(heads)}: {heads_in_words(heads[:8])}{' …' if len(heads) > 8 else ''}"


def heads_in_words(heads: Iterable[Place]) -> str:
    """Such as `L2H0 L2H1`."""
    return " ".join(str(Head(*head)) for head in heads)


def _overlap(one: Overlap, share: tuple[float, float] | None, jaccard: tuple[float, float] | None) -> tuple[str, ...]:
    return (
        str(one.a), str(one.b), str(one.n), _f(one.share) + _span(share), _f(one.jaccard) + _span(jaccard),
        f"{one.expected:.2f}", p_value(one.p), p_value(one.least), p_value(one.p_plain),
    )  # fmt: skip


def _span(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None or math.isnan(bounds[0]) else f" [{_f(bounds[0])}, {_f(bounds[1])}]"


def _f(x: float) -> str:
    return number(x, 2)


def p_value(p: float) -> str:
    """Two figures that matter."""
    return f"{p:.2g}"
