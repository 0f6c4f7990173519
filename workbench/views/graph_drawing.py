"""A circuit graph as SVG: layers upwards, columns from left to right, the logits at the top right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from workbench.views.colours import ink_on, rgb
from workbench.views.graph_parts import LOGITS, Graph, Line, Look, Node, head_name
from workbench.views.text import esc

_SLOT, _ROW, _BOX = 58, 62, (50, 22)
_LEFT, _TOP, _GAP, _BOTTOM = 40, 26, 30, 34
_THIN, _THICK = 1.0, 6.0


@dataclass(frozen=True)
class Drawing:
    """Places of the nodes; a row a layer that holds one. Lengths are SVG units and, on the page, pixels."""

    graph: Graph

    @cached_property
    def rows(self) -> list[int]:
        """Layers that hold a node, the highest first."""
        return sorted({n.head[0] for n in self.graph.nodes}, reverse=True)

    @cached_property
    def spans(self) -> dict[str, tuple[float, float]]:
        """Left and right end of each column."""
        cells: dict[tuple[str, int], int] = defaultdict(int)
        for n in self.graph.nodes:
            cells[n.column, n.head[0]] += 1
        out, x = {}, float(_LEFT)
        for column in self.graph.columns:
            most = max((count for (c, _), count in cells.items() if c == column), default=1)
            width = max((most + 0.5) * _SLOT, 7.0 * len(column) + 8)
            out[column] = (x, x + width)
            x += width + _GAP
        return out

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        right = max((end for _, end in self.spans.values()), default=_LEFT + _SLOT)
        return round(right + 8), _TOP + _ROW * (len(self.rows) + 1) + _BOTTOM - _ROW // 2

    @cached_property
    def centres(self) -> list[tuple[float, float]]:
        """The middle of each node: heads of one cell side by side in their order.

        Rows are shifted in turn by half a place, so that an edge passes beside the heads of the next layer.
        """
        cells: dict[tuple[str, int], list[int]] = defaultdict(list)
        for i, n in enumerate(self.graph.nodes):
            cells[n.column, n.head[0]].append(i)
        out = [(0.0, 0.0)] * len(self.graph.nodes)
        for (column, layer), members in cells.items():
            left, right = self.spans[column]
            row = self.rows.index(layer)
            first = (left + right - _SLOT * (len(members) - 1)) / 2 + _SLOT * (0.25 if row % 2 else -0.25)
            y = _TOP + _ROW * (1 + row)
            for slot, i in enumerate(sorted(members, key=lambda i: self.graph.nodes[i].head)):
                out[i] = (first + _SLOT * slot, float(y))
        return out

    @cached_property
    def logits(self) -> tuple[float, float]:
        """The middle of the logits."""
        left, right = self.spans[self.graph.columns[-1]] if self.graph.columns else (_LEFT, _LEFT + _SLOT)
        return (left + right) / 2, float(_TOP)

    def svg(self, label: str) -> str:
        """The drawing, whose name for screen readers is `label`."""
        width, height = self.size
        lines = "".join(self._line(x) for x in sorted(self.graph.lines, key=lambda x: abs(x.share)))
        nodes = "".join(self._node(i, n) for i, n in enumerate(self.graph.nodes))
        return (
            f'<svg role="img" aria-label="{esc(label)}" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">{self._axes()}<g fill="none">{lines}</g>{nodes}{self._logits()}</svg>'
        )

    @cached_property
    def top(self) -> float:
        """The largest share of an edge, drawn thickest."""
        return max((abs(x.share) for x in self.graph.lines), default=0.0) or 1.0

    def _axes(self) -> str:
        width, height = self.size
        out = []
        for place, layer in enumerate(self.rows):
            y = _TOP + _ROW * (1 + place)
            out.append(f'<path class="rule" stroke="#808080" stroke-opacity=".25" d="M{_LEFT - 6} {y}H{width}"/>')
            out.append(f'<text x="{_LEFT - 10}" y="{y}" dy=".35em" text-anchor="end">L{layer}</text>')
        for column, (left, right) in self.spans.items():
            middle = (left + right) / 2
            out.append(
                f'<text class="axis" x="{middle:.1f}" y="{height - 8}" text-anchor="middle">{esc(column)}</text>'
            )
        return "".join(out)

    def _line(self, x: Line) -> str:
        (x1, y1), (x2, y2) = self.centres[x.sender], self.logits if x.receiver is None else self.centres[x.receiver]
        start, end = y1 - _BOX[1] / 2, y2 + _BOX[1] / 2
        bend = (start - end) / 2
        path = f"M{x1:.1f} {start:.1f}C{x1:.1f} {start - bend:.1f} {x2:.1f} {end + bend:.1f} {x2:.1f} {end:.1f}"
        look, width = self.graph.line_looks[x.kind], _THIN + (_THICK - _THIN) * abs(x.share) / self.top
        to = "logits" if x.receiver is None else x.receiver
        return (
            f'<g class="edge" data-s="{x.sender}" data-r="{to}" data-share="{abs(x.share):.6g}"><title>{esc(x.text)}'
            f'</title><path class="hit" stroke="transparent" stroke-width="12" d="{path}"/>'
            f'<path {outline(look, look.colour)} stroke-width="{width:.2f}" d="{path}"/></g>'
        )

    def _node(self, place: int, n: Node) -> str:
        x, y = self.centres[place]
        layer, head = n.head
        about = f'data-n="{place}" data-head="{layer}.{head}" data-share="{abs(n.share):.6g}"'
        return _box("node", about, x, y, head_name(n.head), n.text, self.graph.node_looks[n.kind])

    def _logits(self) -> str:
        text = "logits: the difference between the right answer and the other"
        return _box("node end", 'data-n="logits"', *self.logits, LOGITS, text, Look("#ffffff"))


def outline(look: Look, stroke: str = "#808080") -> str:
    """Attributes of a stroke with the dashes of a look."""
    return f'stroke="{stroke}"' + (f' stroke-dasharray="{look.dash}"' if look.dash else "")


def _box(kind: str, about: str, x: float, y: float, name: str, text: str, look: Look) -> str:
    width, height = _BOX
    return (
        f'<g class="{kind}" {about}><title>{esc(text)}</title><rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" '
        f'width="{width}" height="{height}" rx="4" fill="{look.colour}" stroke-width="2" {outline(look)}/>'
        f'<text x="{x:.1f}" y="{y:.1f}" dy=".35em" text-anchor="middle" style="fill:{ink_on(rgb(look.colour))}">'
        f"{esc(name)}</text></g>"
    )
