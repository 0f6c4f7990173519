"""The head map: a score for every head of the model, with intervals, and the samples behind each head on a click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.views.block import data, disclosure, figure
from workbench.views.head_grid import HeadGrid
from workbench.views.legend import legend
from workbench.views.text import NOT_SCORED, esc, finite, interval, number

SAMPLE_DIGITS = 4


@dataclass(frozen=True, eq=False)
class HeadMap:
    """`scores` as a map of layers (down) by heads (across); NaN means never scored and is hatched, never zero.

    `low` and `high` are interval bounds (say which interval in the caption). `samples` are the scores behind each
    mean, shown with four decimals when a head is chosen, one `sample_labels` entry each. `details` are further facts
    per (layer, head). `marked` heads get a ring, explained by `marked_label`. `kv_heads` outlines the query heads that
    share a key-value head. `limits` are the ends of the colour scale (default: from 0, or the lowest if below, to the
    highest; scores beyond them take the end colours). Raises `BadInput` where shapes do not fit.
    """

    scores: Float[np.ndarray, "layers heads"]
    title: str = ""
    caption: str = ""
    unit: str = "score"
    finding: str = ""
    low: Float[np.ndarray, "layers heads"] | None = None
    high: Float[np.ndarray, "layers heads"] | None = None
    samples: Float[np.ndarray, "samples layers heads"] | None = None
    sample_labels: Sequence[str] = ()
    details: Mapping[tuple[int, int], Mapping[str, object]] = field(default_factory=dict)
    marked: Sequence[tuple[int, int]] = ()
    marked_label: str = "marked"
    kv_heads: int | None = None
    limits: tuple[float, float] | None = None
    libraries = ()

    def __post_init__(self) -> None:
        """Check the shapes."""
        shape = np.shape(self.scores)
        if len(shape) != 2 or 0 in shape:
            raise BadInput(f"head map {self.title!r}: scores are {shape}, expected [layers, heads]")
        if np.isinf(self.scores).any():
            raise BadInput(f"head map {self.title!r}: scores hold infinity; use NaN for heads that were not scored")
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise BadInput(f"head map {self.title!r}: limits {self.limits} must rise")
        for name in ("low", "high"):
            if getattr(self, name) is not None and np.shape(getattr(self, name)) != shape:
                raise BadInput(
                    f"head map {self.title!r}: {name} is {np.shape(getattr(self, name))}, scores are {shape}"
                )
        if (self.low is None) != (self.high is None):
            raise BadInput(f"head map {self.title!r}: give both low and high, or neither")
        if self.samples is not None and np.shape(self.samples)[1:] != shape:
            raise BadInput(f"head map {self.title!r}: samples are {np.shape(self.samples)}, scores are {shape}")
        count = 0 if self.samples is None else len(self.samples)
        if self.sample_labels and len(self.sample_labels) != count:
            raise BadInput(f"head map {self.title!r}: {len(self.sample_labels)} labels for {count} samples")
        outside = [h for h in (*self.marked, *self.details) if not (0 <= h[0] < shape[0] and 0 <= h[1] < shape[1])]
        if outside:
            raise BadInput(f"head map {self.title!r}: head {tuple(outside[0])} is outside {shape[0]} x {shape[1]}")

    def html(self) -> str:
        """The block as HTML."""
        grid = HeadGrid(np.asarray(self.scores, dtype=np.float64), self.ends(), self.kv_heads)
        drawing = grid.svg(
            self.sentence(),
            grid.cells() + grid.outlines() + grid.rings(self.marked) + grid.axes() + '<path class="chosen" d=""/>',
        )
        name = esc(f"Head map. {self.sentence()}. Arrow keys move between heads.")
        body = (
            f'<div class="mapandpanel"><div class="map" tabindex="0" role="application" aria-label="{name}">{drawing}'
            f'</div><div class="panel"><p class="readout" aria-live="polite"></p><div class="behind"></div></div></div>'
            + legend(self.unit, self.ends(), bool(np.isnan(self.scores).any()), self._keys(grid))
            + self._unscored()
            + disclosure("The same scores as a table", self._table())
            + data(self._data(grid))
        )
        return figure("headmap", self.title, body, self.caption)

    def ends(self) -> tuple[float, float]:
        """The ends of the colour scale."""
        if self.limits is not None:
            return self.limits
        known = self.scores[np.isfinite(self.scores)]
        low, high = (min(0.0, float(known.min())), float(known.max())) if known.size else (0.0, 1.0)
        return (low, high) if high > low else (low, low + 1.0)

    def sentence(self) -> str:
        """The finding in words: the caller's, or the highest head."""
        if self.finding:
            return self.finding.rstrip(".")
        if np.isnan(self.scores).all():
            return f"No head was scored ({self.unit})"
        layer, head = np.unravel_index(int(np.nanargmax(self.scores)), self.scores.shape)
        return f"Highest {self.unit}: layer {layer} head {head}, {number(float(self.scores[layer, head]))}"

    def _keys(self, grid: HeadGrid) -> str:
        keys = '<span class="key narrow">rows: layers, columns: heads</span>'
        if self.marked:
            keys += f'<span class="key"><i class="swatch ring"></i>{esc(self.marked_label)}</span>'
        if grid.outlines():
            keys += '<span class="key"><i class="swatch group"></i>heads that share one key-value head</span>'
        return keys

    def _unscored(self) -> str:
        missing = np.isnan(self.scores)
        if not missing.any():
            return ""
        names = [f"all of layer {i}" for i in range(len(missing)) if missing[i].all()]
        names += [f"L{i}H{j}" for i, j in np.argwhere(missing) if not missing[i].all()]
        text = f"Not scored: {int(missing.sum()):,} of {missing.size:,} heads"
        return f'<p class="note unscored">{text} ({esc(", ".join(names))}).</p>'

    def _table(self) -> str:
        layers, heads = self.scores.shape
        head = "".join(f'<th scope="col">H{j}</th>' for j in range(heads))
        rows = []
        for i in range(layers):
            cells = "".join(f'<td class="num">{self._cell(i, j)}</td>' for j in range(heads))
            rows.append(f'<tr><th scope="row">L{i}</th>{cells}</tr>')
        return f'<table class="matrix"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'

    def _cell(self, i: int, j: int) -> str:
        if self.low is None or self.high is None or self.scores.size > 256:
            return number(float(self.scores[i, j]))
        return interval(float(self.scores[i, j]), float(self.low[i, j]), float(self.high[i, j]))

    def _data(self, grid: HeadGrid) -> dict[str, object]:
        """What the viewer needs; scores and bounds at full precision, samples rounded."""
        samples = None
        if self.samples is not None:
            layers, heads = self.scores.shape
            rounded = np.round(np.asarray(self.samples, dtype=np.float64), SAMPLE_DIGITS)
            samples = rounded.transpose(1, 2, 0).reshape(layers * heads, -1)
        return {
            "shape": list(self.scores.shape),
            "cell": list(grid.cell),
            "margin": list(grid.margin),
            "unit": self.unit,
            "scores": np.asarray(self.scores, dtype=np.float64).reshape(-1),
            "low": None if self.low is None else np.asarray(self.low, dtype=np.float64).reshape(-1),
            "high": None if self.high is None else np.asarray(self.high, dtype=np.float64).reshape(-1),
            "samples": samples,
            "labels": list(self.sample_labels),
            "details": {f"{i}.{j}": {k: _plain(v) for k, v in facts.items()} for (i, j), facts in self.details.items()},
            "kv": self.kv_heads,
        }


def _plain(value: object) -> str:
    """A detail as the reader sees it."""
    value = finite(value)
    if isinstance(value, bool) or value is None:
        return NOT_SCORED if value is None else ("yes" if value else "no")
    if isinstance(value, int | float):
        return number(value)
    return str(value)
