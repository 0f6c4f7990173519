"""A table that sorts by any column, with numbers aligned."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.errors import BadInput
from workbench.views.text import esc, inline, interval, number

Cell = str | int | float | None | tuple[float, float, float]
"""A text, a number (None and NaN are shown as n/a and sort last), or (value, low, high)."""

LONG = 40
"""Characters from which a text may break over lines."""
_HEAD = re.compile(r"L(\d+)H(\d+)")


@dataclass(frozen=True)
class Table:
    """Rows of cells under `columns`; floats are shown with `digits` decimals and sort by their full value.

    `heads` names the column whose cells are head names (`L2H3`); clicking one selects that head in every head map of
    the page. Rows beyond `limit` wait behind a button. Raises `BadInput` where a row has another length.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    title: str = ""
    digits: int = 3
    heads: str = ""
    limit: int = 25
    libraries = ()

    def __post_init__(self) -> None:
        """Check the shape."""
        for place, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise BadInput(
                    f"table {self.title!r}: row {place} has {len(row)} cells for {len(self.columns)} columns"
                )
        if self.heads and self.heads not in self.columns:
            raise BadInput(f"table {self.title!r}: no column {self.heads!r} to take head names from")

    def html(self) -> str:
        """The block as HTML."""
        numeric = [all(not isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))]
        head = "".join(
            f'<th scope="col"{_NUM if numeric[i] else ""}><button type="button">{esc(name)}</button></th>'
            for i, name in enumerate(self.columns)
        )
        body = "".join(self._row(place, row, numeric) for place, row in enumerate(self.rows))
        hidden = len(self.rows) - self.limit
        more = f'<button type="button" class="more">Show all {len(self.rows):,} rows</button>' if hidden > 0 else ""
        heading = f"<h3>{esc(self.title)}</h3>" if self.title else ""
        label = esc(self.title or self.caption or "table")
        return (
            f'<div data-block="table" class="tableblock">{heading}<p class="tablecaption">{inline(self.caption)}</p>'
            f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{more}</div>"
        )

    def _row(self, place: int, row: Sequence[Cell], numeric: Sequence[bool]) -> str:
        hidden = " hidden" if place >= self.limit else ""
        cells = "".join(self._cell(self.columns[i], value, numeric[i]) for i, value in enumerate(row))
        return f"<tr{hidden}>{cells}</tr>"

    def _cell(self, column: str, value: Cell, numeric: bool) -> str:
        if isinstance(value, str):
            found = _HEAD.fullmatch(value) if column == self.heads else None
            if found:
                link = f'<button type="button" class="headlink" data-head="{found[1]}.{found[2]}">{value}</button>'
                key = f"{int(found[1]):06d}.{int(found[2]):06d}"
                return f'<td data-key="{key}">{link}</td>'
            wraps = ' class="long"' if len(value) > LONG else ""
            return f'<td{wraps} data-key="{esc(value)}">{inline(value)}</td>'
        return f'<td{_NUM if numeric else ""} data-key="{_key(value)}">{esc(self._shown(value))}</td>'

    def _shown(self, value: int | float | tuple[float, float, float] | None) -> str:
        """A p-value of 1e-9 is no zero."""
        if isinstance(value, tuple):
            return interval(*value, self.digits)
        least = 10.0**-self.digits
        return f"<{number(least, self.digits)}" if value and 0 < value < least / 2 else number(value, self.digits)


_NUM = ' class="num"'


def _key(value: int | float | tuple[float, float, float] | None) -> str:
    """What the column sorts by: the whole number, or nothing for n/a."""
    first = value[0] if isinstance(value, tuple) else value
    if first is None or math.isnan(first):
        return ""
    return repr(float(first))
