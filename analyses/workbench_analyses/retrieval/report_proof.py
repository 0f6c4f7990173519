"""The proof section of a retrieval report: heads masked, heads kept, heads masked while the model reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.keeping import LEAST
from workbench.views import Block, Curves, Prose, Series, Table
from workbench.views.keeping_curves import keeping_curves, keeping_table
from workbench.views.masking import masking_curves, masking_table, spread, wilson
from workbench_analyses.retrieval.terminal import enough

if TYPE_CHECKING:
    from workbench.reasoning import Reasoning
    from workbench_analyses.retrieval.result import Scan


def proof_blocks(scan: Scan) -> list[Block]:
    """Everything that was run, or one line that says why not."""
    v = scan.validation
    if v is None:
        why = "`proof=none` was asked for." if scan.scores.n else "there is no list to mask."
        return [Prose(callout=f"Not validated: {why}", tone="warn")]
    if v.p is None:
        test = "No layer-matched control exists for this list."
    else:
        test = f"Primary test: area {v.area:.3f}, p = {v.p:.3f} (smallest attainable {v.p_smallest:.3f})."
    halves = f"Recall halves at K = {v.halves_at}." if v.halves_at else "Recall does not halve at any K."
    masked: list[Block] = [Prose((f"{test} {halves}",)), masking_curves(v), masking_table(v)]
    if scan.config.proof != "full":
        more = "`proof=full` also keeps the list while all other heads have a window, and masks it while the model reasons."
        return [*masked, Prose((more,))]
    return [*masked, *_kept(scan), *_reasoned(scan.proved.reasoning)]


def _kept(scan: Scan) -> list[Block]:
    v = scan.proved.keeping
    if v is None:
        few = f"fewer than {LEAST} needles lie outside a window of {scan.config.sink} and {scan.config.recent} tokens"
        return [Prose(callout=f"Heads kept full: not tested, {few}.", tone="warn")]
    return [Prose((f"Kept instead of masked: {enough(v)}.",)), keeping_curves(v), keeping_table(v)]


def _reasoned(v: Reasoning | None) -> list[Block]:
    if v is None or v.not_scored:
        why = "no list" if v is None else v.not_scored
        return [Prose(callout=f"Chain of thought against direct answers: not scored: {why}.", tone="warn")]
    ks = [float(p.k) for p in v.points]
    series = []
    for name, way in (("reasoned", "thought"), ("answered at once", "direct")):
        y = [getattr(p, way) for p in v.points]
        series.append(Series(name, ks, y, *map(list, zip(*(wilson(x, v.n) for x in y), strict=True))))
    caption = (
        f"n = {v.n} word problems, each asked in both ways; unmasked {v.thought:.2f} reasoned, {v.direct:.2f} at once. "
        "Bands: 95 % Wilson intervals."
    )
    finding = "; ".join(f"K = {p.k}: {p.thought:.2f} reasoned, {p.direct:.2f} at once" for p in v.points)
    rows = [[p.k, (p.more, p.low, p.high), spread(p.matched), len(p.matched), p.p, p.q] for p in v.points]
    columns = ("K", "more of the reasoned lost (95 %)", "same layers (95 %)", "draws", "p", "q")
    said = (
        "Share of the reasoned answers that is lost, minus that of the direct ones; bootstrap over problems. p: against "
        "the same layers, secondary; q: corrected together with the other secondary tests."
    )
    lead = Prose(("Masked while word problems are reasoned step by step, and while they are answered at once.",))
    curves = Curves(series, "heads masked (K)", "share answered", finding, caption=caption)
    return [lead, curves, Table(columns, rows, said)]
