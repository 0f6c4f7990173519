"""The drawing of a layers x heads grid: geometry, cells, axes, outlines; shared by the page and the notebook."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from workbench.views.colours import cividis, hexed
from workbench.views.png import png_uri
from workbench.views.text import esc

MAX_RECTS = 1024
"""Above this many heads the cells are one picture instead of one `<rect>` each (5,120 nodes make a page slow)."""


@dataclass(frozen=True, eq=False)
class HeadGrid:
    """Scores as cells: layers down, heads across, colours linear between `limits`. Lengths are SVG units."""

    scores: Float[np.ndarray, "layers heads"]
    limits: tuple[float, float]
    kv_heads: int | None = None
    width: int = 860
    height: int = 620

    @cached_property
    def cell(self) -> tuple[int, int]:
        """Width and height of a cell: square where there is room."""
        layers, heads = self.scores.shape
        side = min(28, self.width // heads)
        return max(side, 3), max(min(28, self.height // layers, max(side, 12)), 3)

    @cached_property
    def scale(self) -> float:
        """How many times smaller the drawing is on a narrow screen (350 px): its labels grow by as much there."""
        return max(1.0, (self.cell[0] * self.scores.shape[1] + 60) / 350)

    @cached_property
    def margin(self) -> tuple[int, int]:
        """Left and top room for labels, enough for those of a narrow screen."""
        return math.ceil(max(42, 10 + 14 * self.scale)), math.ceil(max(32, 8 + 13 * self.scale))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole drawing."""
        layers, heads = self.scores.shape
        return self.margin[0] + self.cell[0] * heads + 4, self.margin[1] + self.cell[1] * layers + 4

    def colour(self, layer: int, head: int) -> tuple[int, int, int]:
        """Red, green, blue of a cell."""
        low, high = self.limits
        return cividis((float(self.scores[layer, head]) - low) / (high - low))

    def cells(self, rects: int = MAX_RECTS) -> str:
        """Rects in row-major order, or one picture above `rects` heads; unscored cells are hatched on top."""
        layers, heads = self.scores.shape
        (x0, y0), (w, h) = self.margin, self.cell
        every = [(i, j) for i in range(layers) for j in range(heads)]
        missing = self._hatch((i, j) for i, j in every if np.isnan(self.scores[i, j]))
        if len(every) > rects:
            pixels = np.array([self.colour(i, j) for i, j in every], dtype=np.uint8).reshape(layers, heads, 3)
            place = f'x="{x0}" y="{y0}" width="{w * heads}" height="{h * layers}"'
            return f'<image class="cells" {place} preserveAspectRatio="none" href="{png_uri(pixels)}"/>{missing}'
        gap = 0.5 if w > 6 else 0
        size = f'width="{w - gap}" height="{h - gap}"'
        drawn = []
        for i, j in every:
            drawn.append(f'<rect x="{x0 + j * w}" y="{y0 + i * h}" {size} fill="{hexed(self.colour(i, j))}"/>')
        return f'<g class="cells">{"".join(drawn)}</g>{missing}'

    def axes(self) -> str:
        """Tick labels; every n-th on wide screens, fewer (class `wide` hides) on narrow ones."""
        (x0, y0), (w, h) = self.margin, self.cell
        layers, heads = self.scores.shape
        out = []
        for axis, count, step in (("head", heads, w), ("layer", layers, h)):
            often = _every(18 if axis == "head" else 14, step)
            rarely = max(often, _every((18 if axis == "head" else 14) * self.scale, step))
            rarely = -(-rarely // often) * often
            for i in range(0, count, often):
                kind = "" if i % rarely == 0 else ' class="wide"'
                centre = i * step + step / 2
                if axis == "head":
                    out.append(f'<text{kind} x="{x0 + centre}" y="{y0 - 5}" text-anchor="middle">{i}</text>')
                else:
                    out.append(f'<text{kind} x="{x0 - 6}" y="{y0 + centre}" dy=".35em" text-anchor="end">{i}</text>')
        out.append(f'<text class="axis wide" x="{x0 + w * heads / 2}" y="{y0 - 18}" text-anchor="middle">head</text>')
        middle = y0 + h * layers / 2
        turn = f'transform="rotate(-90 {x0 - 6} {middle})"'
        out.append(
            f'<text class="axis wide" x="{x0 - 6}" y="{middle}" dy="-1.9em" text-anchor="middle" {turn}>layer</text>'
        )
        return "".join(out)

    def outlines(self) -> str:
        """One outline around the query heads that share a key-value head, in each layer."""
        layers, heads = self.scores.shape
        if not self.kv_heads or self.kv_heads == heads or heads % self.kv_heads:
            return ""
        (x0, y0), (w, h) = self.margin, self.cell
        wide = heads // self.kv_heads * w
        boxes = (
            f"M{x0 + g * wide - 0.25} {y0 + i * h - 0.25}h{wide}v{h}h-{wide}z"
            for i in range(layers)
            for g in range(self.kv_heads)
        )
        thick = min(1.8, min(w, h) / 8)
        return f'<path class="groups" fill="none" stroke="#ffffff" stroke-width="{thick:.2f}" d="{"".join(boxes)}"/>'

    def rings(self, heads: Iterable[tuple[int, int]]) -> str:
        """A ring in each of the named cells: vermilion inside a pale one, to stand out on every colour of the map."""
        (x0, y0), (w, h) = self.margin, self.cell
        radius = max(1.5, min(w, h) / 2 - 3)
        spots = (
            f'<circle cx="{x0 + j * w + w / 2 - 0.5}" cy="{y0 + i * h + h / 2 - 0.5}" r="{radius}"/>' for i, j in heads
        )
        drawn = "".join(spots)
        outer = f'<g stroke="#ffffff" stroke-width="4">{drawn}</g>' if min(w, h) > 12 else ""
        return f'<g class="rings" fill="none">{outer}<g stroke="#d55e00" stroke-width="2">{drawn}</g></g>'

    def svg(self, label: str, inside: str) -> str:
        """The drawing as an `<svg>` whose name for screen readers is `label`."""
        width, height = self.size
        style = f"--s:{self.scale:.3f};max-width:{width}px"
        return (
            f'<svg role="img" aria-label="{esc(label)}" viewBox="0 0 {width} {height}" style="{style}">{inside}</svg>'
        )

    def _hatch(self, heads: Iterable[tuple[int, int]]) -> str:
        (x0, y0), (w, h) = self.margin, self.cell
        lines = "".join(f"M{x0 + j * w} {y0 + (i + 1) * h - 1}l{w - 1}-{h - 1}" for i, j in heads)
        return f'<path class="hatch" fill="none" stroke="#4a4a4a" d="{lines}"/>' if lines else ""


def _every(room: float, step: int) -> int:
    """How many cells apart labels must stand that need `room` each: 1, 2, 4, 8, …"""
    return 2 ** max(0, math.ceil(math.log2(room / step)))
