"""A labelled grid of values, such as recall by context length and needle depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from workbench.errors import BadInput
from workbench.views.block import figure
from workbench.views.colours import cividis, hexed, ink_on
from workbench.views.legend import legend
from workbench.views.text import esc, number


@dataclass(frozen=True, eq=False)
class Heatmap:
    """`values` over named rows and columns, drawn as a table so that it reads without colour.

    `counts` is the n behind each cell; `low` and `high` are interval bounds shown under the value. NaN cells are
    hatched. `limits` are the ends of the colour scale (default: 0 to 1, the range of a rate). Raises `BadInput` where
    shapes or labels do not fit.
    """

    values: Float[np.ndarray, "rows columns"]
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    row_title: str
    column_title: str
    title: str = ""
    caption: str = ""
    unit: str = "recall"
    counts: Int[np.ndarray, "rows columns"] | None = None
    low: Float[np.ndarray, "rows columns"] | None = None
    high: Float[np.ndarray, "rows columns"] | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    digits: int = 2
    libraries = ()

    def __post_init__(self) -> None:
        """Check the shapes."""
        shape = (len(self.row_labels), len(self.column_labels))
        for name in ("values", "counts", "low", "high"):
            array = getattr(self, name)
            if array is not None and np.shape(array) != shape:
                raise BadInput(f"heatmap {self.title!r}: {name} is {np.shape(array)}, labels say {shape}")
        if not self.limits[0] < self.limits[1]:
            raise BadInput(f"heatmap {self.title!r}: limits {self.limits} must rise")
        if (self.low is None) != (self.high is None):
            raise BadInput(f"heatmap {self.title!r}: give both low and high, or neither")

    def html(self) -> str:
        """The block as HTML."""
        columns = "".join(f'<th scope="col">{esc(name)}</th>' for name in self.column_labels)
        rows = "".join(
            f'<tr><th scope="row">{esc(name)}</th>'
            + "".join(self._cell(i, j) for j in range(len(self.column_labels)))
            + "</tr>"
            for i, name in enumerate(self.row_labels)
        )
        body = (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(self.finding())}"><table class="grid">'
            f'<thead><tr><td class="corner"></td><th scope="colgroup" colspan="{len(self.column_labels)}">'
            f"{esc(self.column_title)}</th></tr>"
            f'<tr><th scope="col" class="corner">{esc(self.row_title)}</th>{columns}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
            + legend(self.unit, self.limits, missing=bool(np.isnan(self.values).any()))
        )
        return figure("heatmap", self.title, body, self.caption)

    def finding(self) -> str:
        """The lowest and highest cells in words, for readers who do not see the colours."""
        if not self.values.size or np.isnan(self.values).all():
            return f"{self.title or self.unit}: no cell was scored"
        ends = []
        for word, place in (("lowest", np.nanargmin(self.values)), ("highest", np.nanargmax(self.values))):
            i, j = divmod(int(place), self.values.shape[1])
            where = f"{self.row_title} {self.row_labels[i]}, {self.column_title} {self.column_labels[j]}"
            ends.append(f"{word} {number(float(self.values[i, j]), self.digits)} at {where}")
        return f"{self.title or self.unit}: {'; '.join(ends)}"

    def _cell(self, i: int, j: int) -> str:
        value = float(self.values[i, j])
        low, high = self.limits
        colour = cividis((value - low) / (high - low))
        style = f' style="background:{hexed(colour)};color:{ink_on(colour)}"' if value == value else ' class="missing"'
        lines = f"<b>{number(value, self.digits)}</b>"
        if self.low is not None and self.high is not None and not np.isnan([self.low[i, j], self.high[i, j]]).any():
            bounds = (number(float(x[i, j]), self.digits) for x in (self.low, self.high))
            lines += f"<small>{'–'.join(bounds)}</small>"
        if self.counts is not None:
            lines += f"<small>n = {int(self.counts[i, j])}</small>"
        return f"<td{style}>{lines}</td>"
