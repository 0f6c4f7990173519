"""The honest table as blocks of a page: the sentence, comparisons at equal recall, curves, every row, random heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from workbench import visual_methods
from workbench.views.block import Block
from workbench.views.curves import Curves, Series
from workbench.views.prose import Prose
from workbench.views.table import Table
from workbench_analyses.visual.table_parts import ModelTable, Row
from workbench_analyses.visual.table_result import HonestTable

HOW = (
    "Strengths are chosen on other pictures than those reported here: of all that keep the recall, the one that invents "
    "least. A curve begins at the plain model and is read linearly between two strengths, where it has lost the recall of "
    "the column; one that never loses so much is read at the chosen strength, at its own higher recall. Intervals are of a "
    "paired bootstrap over pictures; the lowest trivial means counts in every resample. No correction for the number of "
    "comparisons: seeds must agree instead."
)
TRIVIAL = (
    "Trivial means look at no attention: captions cut short after so many words, the end of the text made likelier, object "
    "words dropped that had less than so much probability."
)
APART = 5
"""Methods in one figure, beside the lowest trivial means."""


def blocks(table: HonestTable) -> list[Block]:
    """All blocks, models one after the other."""
    several = len(table.tables) > 1
    said = (table.sentence_on_heads,) if table.sentence_on_heads else ()
    tone = "good" if table.found else "neutral"
    out: list[Block] = [Prose((*said, HOW, TRIVIAL), _asked(table), callout=table.sentence, tone=tone)]
    for one in table.tables:
        title = f", {one.name}" if several else ""
        for kind in one.kinds:
            if one.compared[kind]:
                out.append(_compared(one, kind, title))
            out += _curves(one, kind, title)
        out.append(_rows(one, title))
        if one.controlled:
            out.append(_controlled(one, title))
    return out


def _asked(table: HonestTable) -> dict[str, object]:
    """Every method that some model could be asked, then what models could not be asked, and why."""
    facts: dict[str, object] = {}
    for one in table.tables:
        for name, layers in one.layers.items():
            method = visual_methods.named(name)
            by = f"; heads by causal contrast of {one.measures[name]}" if name in one.measures else ""
            left = f"; left out: {method.left_out}" if method.left_out else ""
            facts[name] = f"{method.help} ({method.source}). Layers {_span(layers)}{by}{left}"
    for one in table.tables:
        of = f" of {one.name}" if len(table.tables) > 1 else ""
        facts |= {f"{name}, not asked{of}": reason for name, reason in one.left_out.items()}
    return facts


def _span(layers: Sequence[int]) -> str:
    """`1, 18–31`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def _points(drop: float) -> int | float:
    points = round(100 * drop, 6)
    return int(points) if points == int(points) else points


def _compared(one: ModelTable, kind: str, title: str) -> Table:
    columns = (
        "method", "points of recall lost", "strength", "invented", "plain", "best trivial means", "its invented",
        "against plain (95 %)", "against trivial (95 %)", "against the same in all heads (95 %)", "better",
    )  # fmt: skip
    rows = [
        [c.method, _points(c.drop), c.strength if c.place else None, c.invented, c.base, c.baseline, c.baseline_invented,
         c.against_base, c.against_baseline, c.beside, "yes" if c.better else "no"]
        for c in one.compared[kind]
    ]  # fmt: skip
    caption = (
        "Invented: share of different named objects that are not there. Strength n/a: none lowered it at this recall on "
        "the pictures that choose, so the plain model stands there."
    )
    return Table(columns, rows, caption, f"At equal recall, {kind}{title}", limit=40)


def _curves(one: ModelTable, kind: str, title: str) -> Iterator[Curves]:
    rows = [r for r in one.rows if r.kind == kind]
    plain = next(r for r in rows if r.means == "plain")
    series = {name: _series(name, plain, rows) for name in dict.fromkeys(r.means for r in rows if r is not plain)}
    trivial = [s for name, s in series.items() if any(r.trivial for r in rows if r.means == name)]
    methods = [s for s in series.values() if s not in trivial]
    groups = [trivial, *(methods[i : i + APART] for i in range(0, len(methods), APART))]
    shown = _lowest(trivial)
    for i, group in enumerate(groups):
        held = group if i == 0 else [*group, shown]
        what = "trivial means" if i == 0 else ", ".join(s.name for s in group)
        yield Curves(
            held, "recall", "invented of named objects", f"Invention against recall of {what} on {kind} pictures.",
            f"Invention against recall, {kind}{title}: {what}",
            "Each point is a strength; lines follow the grid, from the plain model on.", y_range=None,
        )  # fmt: skip


def _series(name: str, plain: Row, rows: Sequence[Row]) -> Series:
    held = [plain, *(r for r in rows if r.means == name)]
    known = [r.chair for r in held if r.chair.chair_i_distinct == r.chair.chair_i_distinct]
    return Series(name, [c.recall for c in known], [c.chair_i_distinct for c in known])


def _lowest(trivial: Sequence[Series]) -> Series:
    """Of the trivial means the one that invents least over all."""
    return min(trivial, key=lambda s: sum(s.y) / max(1, len(s.y)))


def _rows(one: ModelTable, title: str) -> Table:
    columns = (
        "means", "strength", "kind", "CHAIR_S", "CHAIR_I", "CHAIR_I, distinct", "recall", "precision", "F1", "words",
        "unique words", "repeated sentences", "POPE accuracy", "yes",
    )  # fmt: skip
    rows: list[list[Any]] = []
    for r in one.rows:
        c = r.chair
        rows.append(
            [r.means, r.strength, r.kind, c.chair_s, c.chair_i, c.chair_i_distinct, c.recall, c.precision, c.f1, c.length,
             c.unique_words, c.repeated_sentences, r.accuracy, r.yes_ratio]
        )  # fmt: skip
    caption = "POPE: adversarial questions; yes: share of the answers. Trivial means leave answers alone."
    return Table(columns, rows, caption, f"Every means at every strength{title}", limit=20)


def _controlled(one: ModelTable, title: str) -> Table:
    columns = (
        "method",
        "strength",
        "chosen",
        "kind",
        "heads",
        "invented",
        "recall",
        "random: invented",
        "random: recall",
        "draws",
    )
    rows = [
        [c.means, c.strength, "yes" if c.chosen else "no: middle of its strengths", c.kind,
         "of the same layers" if c.control == "layers" else "anywhere", *c.own, *c.mean, len(c.drawn)]
        for c in one.controlled
    ]  # fmt: skip
    caption = (
        "Random heads in the place of a method's, or its scores shuffled; means over draws, at the strength "
        "chosen on the last kind of pictures. Not chosen: no strength helped there, so random heads stand beside the middle "
        "one, which nobody chose."
    )
    return Table(columns, rows, caption, f"Random heads{title}", limit=40)
