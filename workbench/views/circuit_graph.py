"""The graph of a circuit, or of two laid over one another: layers upwards, evidence on hover, paths on a click.

SVG and not Plotly: it is there without a script (print, a saved notebook), asks for no library, and every edge has its
own width, dashes and text, for which Plotly needs a trace each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from workbench.circuits import Circuit
from workbench.errors import BadInput
from workbench.views.block import disclosure, figure
from workbench.views.graph_diff import diff_of
from workbench.views.graph_drawing import Drawing, outline
from workbench.views.graph_parts import ABLATION, Graph, Look, graph_of, head_name, largest_first
from workbench.views.text import esc, interval, number


@dataclass(frozen=True)
class CircuitGraph:
    """One circuit by layer and label, or two as what is shared, only in the first and only in the second.

    names: of two circuits (default: their tasks where these differ, else A and B). finding: what a screen reader hears
    instead of the picture. Draws at most 200 heads and 1,000 edges, those with the largest shares, and says so. Raises
    BadInput for another number of circuits, and for two of models of unequal shape.
    """

    circuits: Sequence[Circuit]
    names: Sequence[str] = ()
    title: str = ""
    caption: str = ""
    finding: str = ""
    libraries = ()

    def __post_init__(self) -> None:
        """Check the circuits."""
        if len(self.circuits) not in (1, 2):
            raise BadInput(f"circuit graph {self.title!r}: {len(self.circuits)} circuits; give one, or two to compare")
        shapes = [f"{c.n_layers} x {c.n_heads}" for c in self.circuits]
        if len(set(shapes)) > 1:
            raise BadInput(f"circuit graph {self.title!r}: heads of {' and '.join(shapes)} cannot be compared")
        if self.names and (len(self.names) != len(self.circuits) or len(set(self.names)) < len(self.names)):
            raise BadInput(f"circuit graph {self.title!r}: give each circuit a name of its own, or none")

    @cached_property
    def called(self) -> tuple[str, ...]:
        """What the circuits are called."""
        tasks = tuple(c.task for c in self.circuits)
        return tuple(self.names) or (tasks if len(set(tasks)) == len(tasks) else ("A", "B"))

    @cached_property
    def graph(self) -> Graph:
        """What is drawn."""
        if len(self.circuits) == 1:
            return graph_of(self.circuits[0])
        a, b = self.circuits
        return diff_of(a, b, self.called)

    def html(self) -> str:
        """The block as HTML: the drawing with its evidence, a slider, the legend, and the same as a table."""
        name = esc(f"Circuit graph. {self.sentence()}. Arrow keys move between heads, Escape shows all paths.")
        body = (
            f'{self._slider()}<div class="scroll graph" tabindex="0" role="application" aria-label="{name}">'
            f'{Drawing(self.graph).svg(self.sentence())}</div><p class="readout" aria-live="polite"></p>'
            f"{self.legend()}{self._left_out()}{disclosure('The same heads and edges as a table', self._tables())}"
        )
        return figure("circuit", self.title, body, self.caption)

    def sentence(self) -> str:
        """The finding in words: the caller's, or how many heads there are and the largest."""
        if self.finding:
            return self.finding.rstrip(".")
        if len(self.circuits) == 2:
            a, b = (set(c.nodes) for c in self.circuits)
            only = ", ".join(
                f"{len(x - y)} only in {n}" for x, y, n in ((a, b, self.called[0]), (b, a, self.called[1]))
            )
            return f"{len(a & b)} heads in both circuits, {only}"
        one = self.circuits[0]
        top = largest_first(one.heads)[:1]
        most = f"; largest {head_name(top[0].head)}, {number(top[0].share, 2)} of the gap" if top else ""
        return f"Circuit of {one.task}: {len(one.nodes)} heads, {len(one.edges)} edges{most}"

    def legend(self, key: str = 'class="key"') -> str:
        """What colours, dashes and widths mean, with how many heads are of each kind. key: attributes of an entry."""
        counts = Counter(n.kind for n in self.graph.nodes)
        looks = self.graph.node_looks
        heads = "".join(f"<span {key}>{_swatch(looks[k])}{esc(k)} ({counts[k]})</span>" for k in looks if counts[k])
        drawn = {x.kind for x in self.graph.lines}
        styles = {k: look for k, look in self.graph.line_looks.items() if k in drawn}
        lines = "".join(f"<span {key}>{_stroke(look)}edge {esc(k)}</span>" for k, look in styles.items())
        top = f"<span {key}>thickest edge: {number(Drawing(self.graph).top, 2)} of the gap</span>" if drawn else ""
        return f'<div class="legend">{heads}{lines}{top}</div>'

    def _repr_html_(self) -> str:
        """The notebook output: the drawing as a picture, with its legend; no script."""
        from workbench.views.notebook import graph_html

        return graph_html(self)

    def _slider(self) -> str:
        shares = [abs(x.share) for x in (*self.graph.nodes, *self.graph.lines)]
        most = math.ceil(max(shares, default=0.0) * 100) / 100
        field = f'<input type="range" min="0" max="{most:g}" step="0.005" value="0">'
        return f'<div class="controls"><label>Shares of the gap from {field} <output>0.000</output></label></div>'

    def _left_out(self) -> str:
        return f'<p class="note">Not drawn: {esc(self.graph.left_out)}.</p>' if self.graph.left_out else ""

    def _tables(self) -> str:
        named = list(zip(self.called, self.circuits, strict=True))
        heads = [
            (name, head_name(h.head), h.stage, h.role, interval(h.share, h.low, h.high), _evidence(h.evidence))
            for name, circuit in named
            for h in circuit.heads
        ]
        heads += [
            (name, head_name(h), "", ABLATION, "", "") for name, c in named for h in c.needed if h not in c.carrying
        ]
        edges = [
            (name, head_name(e.edge.sender), head_name(e.edge.receiver), f"{e.edge.channel}@{e.edge.label}",
             interval(e.share, e.low, e.high))
            for name, circuit in named
            for e in circuit.edges
        ]  # fmt: skip
        return _table(("circuit", "head", "stage", "role", "share of the gap", "evidence"), heads) + _table(
            ("circuit", "sender", "receiver", "channel", "share of the gap"), edges
        )


def _evidence(evidence: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {number(value)}" for key, value in evidence.items())


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{esc(c)}</th>' for c in columns)
    body = "".join(f"<tr>{''.join(f'<td>{esc(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _swatch(look: Look) -> str:
    rect = f'<rect x="1" y="1" width="20" height="12" rx="3" fill="{look.colour}" stroke-width="2" {outline(look)}/>'
    return f'<svg width="22" height="14" aria-hidden="true">{rect}</svg>'


def _stroke(look: Look) -> str:
    line = f'<path d="M0 7h30" stroke-width="2.5" {outline(look, look.colour)}/>'
    return f'<svg width="30" height="14" aria-hidden="true">{line}</svg>'
