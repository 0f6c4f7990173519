"""Curves with bands, drawn by Plotly: a metric against a number, several named series."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import BadInput
from workbench.views.block import data, disclosure, figure
from workbench.views.colours import OKABE_ITO
from workbench.views.libraries import PLOTLY
from workbench.views.text import esc, interval, number

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid")
_DASH_ARRAYS = ("", "6 4", "2 3", "6 3 2 3", "10 4", "")
GLYPHS = "●■◆▲✖✚"
CLOSE = 0.04
"""Labels of an axis are at least this part of it apart."""
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross")


@dataclass(frozen=True)
class Series:
    """One curve; `low` and `high` are the band (say which interval in the caption of the figure)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Curves:
    """Up to six `series` over one x axis; `marks` are vertical lines (x, label).

    Series differ in colour, dash and marker. `finding` is the sentence that a screen reader hears instead of the
    picture. A logarithmic y axis (`log_y`) has the range of its values unless `y_range` is wider; values of 0 and below
    stand at its lower edge, and the figure says so. Raises `BadInput` for more than six series, or for bands and values
    of unequal length.
    """

    series: Sequence[Series]
    x_label: str
    y_label: str
    finding: str
    title: str = ""
    caption: str = ""
    y_range: tuple[float, float] | None = (0.0, 1.0)
    marks: Sequence[tuple[float, str]] = ()
    log_x: bool = False
    log_y: bool = False
    digits: int = 3
    libraries = (PLOTLY,)

    def __post_init__(self) -> None:
        """Check the series."""
        if len(self.series) > len(OKABE_ITO):
            raise BadInput(f"curves {self.title!r}: {len(self.series)} series; six can be told apart, split the figure")
        for s in self.series:
            if len({len(v) for v in (s.x, s.y, s.low, s.high) if v is not None}) != 1:
                raise BadInput(f"curves {self.title!r}: series {s.name!r} has x, y and bands of unequal length")
            if (s.low is None) != (s.high is None):
                raise BadInput(f"curves {self.title!r}: series {s.name!r} needs both low and high, or neither")

    def html(self) -> str:
        """The block as HTML: an empty frame that the viewer fills, and the same numbers as a table."""
        keys = "".join(f"<span>{_swatch(place)} {esc(s.name)}</span>" for place, s in enumerate(self.series))
        frame = f'<div class="plot" role="group" aria-label="{esc(self.finding)}"></div>{data(self.spec())}'
        table = disclosure("The same numbers as a table", self._table())
        return figure("plotly", self.title, f'<div class="series">{keys}</div>{frame}{table}', self._said())

    def spec(self) -> dict[str, Any]:
        """The Plotly figure as plain data; the viewer adds the theme's ink, grid and fonts."""
        traces = [trace for place, s in enumerate(self.series) for trace in self._traces(place, s)]
        lines = [{"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, **_MARK} for x, _ in self.marks]
        # Plotly wants the logarithm for annotations on a log axis, but the number itself for shapes.
        notes = [{"x": math.log10(x) if self.log_x else x, "y": 1, "text": plain(t), **_NOTE} for x, t in self.marks]
        axes = {"xaxis": self._x_axis(), "yaxis": self._y_axis()}
        return {"data": traces, "layout": {**axes, "shapes": lines, "annotations": notes}}

    def plotly(self) -> Any:
        """The same as a Plotly figure, for notebooks."""
        import plotly.graph_objects as go

        return go.Figure(self.spec()).update_layout(template="plotly_white")

    def _traces(self, place: int, s: Series) -> list[dict[str, Any]]:
        colour = OKABE_ITO[place]
        line = {"color": colour, "width": 2, "dash": _DASHES[place]}
        marker = {"color": colour, "size": 7, "symbol": MARKERS[place]}
        points = {"x": list(s.x), "y": self._drawn(s.y), "text": _texts(s, self.digits), "name": plain(s.name)}
        curve = {"type": "scatter", "mode": "lines+markers", "line": line, "marker": marker, **points, **_HOVER}
        return [*self._band(s, colour), curve]

    def _x_axis(self) -> dict[str, Any]:
        axis: dict[str, Any] = {"title": {"text": plain(self.x_label)}, "type": "log" if self.log_x else "linear"}
        ticks = sorted({float(v) for s in self.series for v in s.x})
        if len(ticks) <= 12 and self._apart(ticks):
            axis |= {"tickvals": ticks, "ticktext": [f"{t:g}" if t == round(t) else f"{t:.3g}" for t in ticks]}
        return axis

    def _apart(self, ticks: Sequence[float]) -> bool:
        """Whether labels at these places do not lie on one another."""
        places = [math.log(t) for t in ticks] if self.log_x else list(ticks)
        return all(b - a >= CLOSE * (places[-1] - places[0]) for a, b in itertools.pairwise(places))

    def _y_axis(self) -> dict[str, Any]:
        """`y_range` with a little room, widened where a value lies outside it: nothing is cut off silently."""
        axis: dict[str, Any] = {"title": {"text": plain(self.y_label)}}
        if self.log_y:
            low, high = (math.log10(end) for end in self._log_ends())
            return axis | {"type": "log", "exponentformat": "power", "range": _roomy(low, high)}
        if self.y_range is not None:
            known = self._known()
            axis["range"] = _roomy(min([self.y_range[0], *known]), max([self.y_range[1], *known]))
        return axis

    def _known(self) -> list[float]:
        """All values and bounds that are numbers."""
        held = [values for s in self.series for values in (s.y, s.low, s.high) if values is not None]
        return [float(v) for values in held for v in values if math.isfinite(v)]

    def _log_ends(self) -> tuple[float, float]:
        """Ends of a logarithmic axis; half a decade below the least value where some have no place on it."""
        known = self._known()
        above = [v for v in (*known, *(self.y_range or ())) if v > 0] or [1.0]
        return min(above) / (10**0.5 if min(known, default=1.0) <= 0 else 1.0), max(above)

    def _drawn(self, values: Sequence[float]) -> list[float]:
        """Values where they are drawn: those that have no place on a logarithmic axis stand at its lower end."""
        if not self.log_y:
            return list(values)
        low = self._log_ends()[0]
        return [low if v <= 0 else v for v in values]

    def _said(self) -> str:
        """The caption."""
        if not self.log_y or min(self._known(), default=1.0) > 0:
            return self.caption
        return f"{self.caption} Values of 0 and below stand at the lower edge of the logarithmic axis.".strip()

    def _band(self, s: Series, colour: str) -> list[dict[str, Any]]:
        """Two invisible lines with the space between them filled; drawn before the curve itself."""
        if s.low is None or s.high is None:
            return []
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        shared = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        fill = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},0.16)"}
        low, high = ({"x": list(s.x), "y": self._drawn(y), **shared} for y in (s.low, s.high))
        return [low, high | fill]

    def _table(self) -> str:
        head = "".join(f'<th scope="col">{esc(s)}</th>' for s in ("series", self.x_label, self.y_label))
        rows = []
        for s in self.series:
            for x, text in zip(s.x, _texts(s, self.digits), strict=True):
                rows.append(f'<tr><td>{esc(s.name)}</td><td class="num">{x:g}</td><td class="num">{text}</td></tr>')
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


_HOVER = {"hovertemplate": "%{x}: %{text}<extra>%{fullData.name}</extra>"}
_MARK = {"yref": "paper", "line": {"width": 1, "dash": "dot"}}
_NOTE = {"yref": "paper", "showarrow": False, "xanchor": "left", "yanchor": "bottom"}


def _roomy(low: float, high: float) -> list[float]:
    room = 0.04 * (high - low) or 0.1
    return [low - room, high + room]


def _swatch(place: int) -> str:
    """Colour, dash and marker of a series, as in the plot."""
    colour = OKABE_ITO[place]
    return (
        '<svg viewBox="0 0 38 14" aria-hidden="true">'
        f'<path d="M0 7h38" stroke="{colour}" stroke-width="2" stroke-dasharray="{_DASH_ARRAYS[place]}"/>'
        f'<text x="19" y="11.5" font-size="13" text-anchor="middle" fill="{colour}">{GLYPHS[place]}</text></svg>'
    )


def _texts(s: Series, digits: int) -> list[str]:
    if s.low is None or s.high is None:
        return [number(float(y), digits) for y in s.y]
    return [interval(float(y), float(a), float(b), digits) for y, a, b in zip(s.y, s.low, s.high, strict=True)]


def plain(text: str) -> str:
    """Text for Plotly, whose own markup would read `<b>` and links in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
