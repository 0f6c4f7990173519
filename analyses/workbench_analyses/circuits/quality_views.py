"""The quality of a circuit as it is shown: faithfulness against random circuits, curves, completeness, minimality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.views import Block, Curves, Prose, Series, Table
from workbench_analyses.circuits.minimality import LEAST

if TYPE_CHECKING:
    from workbench.circuits import Circuit
    from workbench_analyses.circuits.curves import Curve
    from workbench_analyses.circuits.quality import Quality

NOT_MEASURED = "Not measured: the quality of this circuit was not asked for, or it has no heads."


def quality_blocks(quality: Quality | None, circuit: Circuit, unmeasured: str | None = None) -> list[Block]:
    """Everything about the quality of a circuit, or why it could not be measured."""
    if unmeasured is not None:
        again = "The same command measures it again; everything before it is kept."
        return [Prose((again,), callout=f"NOT measured: {unmeasured}", tone="warn")]
    if quality is None:
        return [Prose((NOT_MEASURED,))]
    out: list[Block] = [_faithfulness(quality)]
    if quality.curves:
        out += [_curves(quality.curves, circuit), _areas(quality.curves)]
    return [*out, _completeness(quality), _minimality(quality)]


def _faithfulness(quality: Quality) -> Table:
    f, r = quality.faithfulness, quality.randoms
    first, median, third = f.quartiles
    rows: list[list[object]] = [
        ["the circuit", len(f.heads), (f.share, f.low, f.high), f"{first:.2f}, {median:.2f}, {third:.2f}", f.alone],
    ]
    if r.shares:
        shares = np.array(r.shares)
        spread = (float(shares.mean()), float(shares.min()), float(shares.max()))
        rows.append([f"{len(shares)} random circuits", len(f.heads), spread, "", float("nan")])
    caption = (
        f"(m(C) − m(none)) / (m(all) − m(none)), m the mean logit difference of n = {f.n} prompts that the trace "
        f"did not see: {f.whole:.2f} with all heads, {f.nothing:.2f} with none; {f.how} ablation, all positions, MLPs "
        f"live. Random circuits have as many heads in each layer and none of the circuit's: mean, least and largest"
        + (f"; p = {r.p:.3g}." if r.p is not None else "; none exists here.")
    )
    columns = ("heads kept", "how many", "faithfulness", "quartiles over prompts", "logit difference")
    return Table(columns, rows, caption, "Faithfulness")  # pyright: ignore


def _curves(curves: tuple[Curve, ...], circuit: Circuit) -> Curves:
    series = [Series(c.method, c.sizes, c.f, c.low, c.high) for c in curves]
    best = max(curves, key=lambda c: c.cpr)
    finding = f"{best.method} has the largest area under faithfulness, {best.cpr:.3f}"
    return Curves(
        series, "heads kept", "faithfulness", finding, "Circuit performance by size",
        f"Heads in the order of each method. Bands: 95 % over prompts; of random orders, the range of {curves[-1].draws}.",
        y_range=None, marks=[(len(circuit.nodes), "the circuit")],
    )  # fmt: skip


def _areas(curves: tuple[Curve, ...]) -> Table:
    rows = [[c.method, (c.cpr, *c.cpr_interval), (c.cmd, *c.cmd_interval)] for c in curves]
    caption = (
        "CPR: area under faithfulness over the share of heads kept, higher is better. CMD: area of its distance from 1, "
        "0 is best (MIB, Mueller et al. 2025, arXiv 2504.13151, here in units of heads)."
    )
    return Table(("method", "CPR", "CMD"), rows, caption)


def _completeness(quality: Quality) -> Table:
    rows = [
        [r.by, r.name, len(r.removed), r.circuit, r.model, (r.difference, r.low, r.high), r.share]
        for r in quality.completeness
    ]  # fmt: skip
    caption = (
        "Heads K taken out of the circuit and out of the model: the same change means that nothing outside the circuit "
        "stands in. Difference in logits with 95 % interval; share of what all heads do."
    )
    columns = ("by", "removed", "heads", "circuit", "model", "difference", "share")
    return Table(columns, rows, caption, "Completeness", limit=12)


def _minimality(quality: Quality) -> Table:
    rows = [
        [f"L{m.head[0]}H{m.head[1]}", m.change, m.by, "yes" if m.minimal else "NO"]
        for m in sorted(quality.minimality, key=lambda m: m.change)
    ]  # fmt: skip
    caption = (
        f"Largest change of the logit difference, as a share of the model's, that taking the head out of the circuit makes "
        f"when the named others are gone; at least {LEAST:.0%} belongs."
    )
    return Table(("head", "change", "with these gone", "belongs"), rows, caption, "Minimality", heads="head", limit=12)
