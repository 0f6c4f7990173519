"""Points on two axes, drawn by Plotly: heads by two numbers, in a few named groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import BadInput
from workbench.views.block import data, disclosure, figure
from workbench.views.colours import OKABE_ITO
from workbench.views.curves import GLYPHS, MARKERS, plain
from workbench.views.libraries import PLOTLY
from workbench.views.text import esc, number

LABELLED = 8
"""Points of a group that are named in the picture; all of them are named under the pointer."""


@dataclass(frozen=True)
class Points:
    """One group of points; `labels` name them. `named`: write the names beside the points, where they are few."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str]
    named: bool = False


@dataclass(frozen=True)
class Scatter:
    """Up to six `groups` of points; `x_lines` and `y_lines` are dotted lines (place, label), `segments`
    dotted lines from one place to another ((x, y, x, y), label at the end). `x_range` and `y_range`: ends of the axes.

    Groups differ in colour and marker. `finding` is the sentence that a screen reader hears instead of the picture.
    Raises `BadInput` for more than six groups, or for coordinates and labels of unequal length.
    """

    groups: Sequence[Points]
    x_label: str
    y_label: str
    finding: str
    title: str = ""
    caption: str = ""
    x_lines: Sequence[tuple[float, str]] = ()
    y_lines: Sequence[tuple[float, str]] = ()
    segments: Sequence[tuple[tuple[float, float, float, float], str]] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    digits: int = 3
    libraries = (PLOTLY,)

    def __post_init__(self) -> None:
        """Check the groups."""
        if len(self.groups) > len(OKABE_ITO):
            raise BadInput(
                f"scatter {self.title!r}: {len(self.groups)} groups; six can be told apart, split the figure"
            )
        for g in self.groups:
            if not len(g.x) == len(g.y) == len(g.labels):
                raise BadInput(f"scatter {self.title!r}: group {g.name!r} has x, y and labels of unequal length")

    def html(self) -> str:
        """The block as HTML: an empty frame that the viewer fills, and the same numbers as a table."""
        keys = "".join(f"<span>{_swatch(i)} {esc(g.name)} ({len(g.x)})</span>" for i, g in enumerate(self.groups))
        frame = f'<div class="plot" role="group" aria-label="{esc(self.finding)}"></div>{data(self.spec())}'
        table = disclosure("The same numbers as a table", self._table())
        return figure("plotly", self.title, f'<div class="series">{keys}</div>{frame}{table}', self.caption)

    def spec(self) -> dict[str, Any]:
        """The Plotly figure as plain data; the viewer adds the theme's ink, grid and fonts."""
        shapes = [
            {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", **_LINE} for x, _ in self.x_lines
        ]
        shapes += [
            {"type": "line", "y0": y, "y1": y, "x0": 0, "x1": 1, "xref": "paper", **_LINE} for y, _ in self.y_lines
        ]
        shapes += [
            {"type": "line", **dict(zip(("x0", "y0", "x1", "y1"), s, strict=True)), **_LINE} for s, _ in self.segments
        ]
        notes = [{"x": x, "y": 1, "yref": "paper", "text": plain(t), **_NOTE} for x, t in self.x_lines]
        notes += [{"x": 0, "xref": "paper", "y": y, "text": plain(t), **_NOTE} for y, t in self.y_lines]
        notes += [{"x": s[2], "y": s[3], "text": plain(t), **_NOTE, "xanchor": "right"} for s, t in self.segments]
        axes: dict[str, Any] = {}
        for name, label, ends in (("xaxis", self.x_label, self.x_range), ("yaxis", self.y_label, self.y_range)):
            axes[name] = {"title": {"text": plain(label)}, **({} if ends is None else {"range": list(ends)})}
        return {
            "data": [self._trace(i, g) for i, g in enumerate(self.groups)],
            "layout": {**axes, "shapes": shapes, "annotations": notes},
        }

    def plotly(self) -> Any:
        """The same as a Plotly figure, for notebooks."""
        import plotly.graph_objects as go

        return go.Figure(self.spec()).update_layout(template="plotly_white")

    def _trace(self, place: int, g: Points) -> dict[str, Any]:
        written = g.named and len(g.x) <= LABELLED
        return {
            "type": "scatter", "mode": "markers+text" if written else "markers", "x": list(g.x), "y": list(g.y),
            "text": [plain(t) for t in g.labels], "textposition": "top center", "name": plain(g.name),
            "cliponaxis": not written,  # names of points at the edge may leave the axes
            "marker": {"color": OKABE_ITO[place], "symbol": MARKERS[place], "size": 8, "opacity": 0.8},
            "hovertemplate": "%{text}: %{x:.3g}, %{y:.3g}<extra>%{fullData.name}</extra>",
        }  # fmt: skip

    def _table(self) -> str:
        names = ("group", "point", self.x_label, self.y_label)
        head = "".join(f'<th scope="col">{esc(s)}</th>' for s in names)
        rows = [
            f'<tr><td>{esc(g.name)}</td><td>{esc(label)}</td><td class="num">{number(float(x), self.digits)}</td>'
            f'<td class="num">{number(float(y), self.digits)}</td></tr>'
            for g in self.groups
            for x, y, label in zip(g.x, g.y, g.labels, strict=True)
        ]
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


_LINE = {"line": {"width": 1, "dash": "dot"}}
_NOTE = {"showarrow": False, "xanchor": "left", "yanchor": "bottom"}


def _swatch(place: int) -> str:
    """Colour and marker of a group, as in the plot."""
    return (
        '<svg viewBox="0 0 14 14" aria-hidden="true"><text x="7" y="11.5" font-size="13" text-anchor="middle" '
        f'fill="{OKABE_ITO[place]}">{GLYPHS[place]}</text></svg>'
    )
