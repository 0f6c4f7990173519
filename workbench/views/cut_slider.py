"""A head map with a slider: where the list is cut, what that costs, what it is expected to tell, the file it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from workbench.errors import BadInput
from workbench.views.block import data, figure
from workbench.views.head_grid import HeadGrid
from workbench.views.legend import legend
from workbench.views.text import esc, inline


@dataclass(frozen=True)
class Stop:
    """One place of the slider: the first `full` heads of the ranking stay full.

    option: how the command line says it. sparsity: share of streaming heads as the exported file writes it.
    """

    full: int
    option: str
    sparsity: str


@dataclass(frozen=True, eq=False)
class CutSlider:
    """Scores of key-value heads with a cut that moves.

    ranked: heads, best first; `fixed` ones have no score and are always full. stops: places of the slider, fewest full
    heads first. curve: (full heads, recall, low, high) as measured. measured: on what, in words. command: a line with
    `{option}`. config: the text of config.json with `{sparsity}`. start: the place where the slider stands first. Raises
    BadInput where these do not fit.
    """

    scores: Float[np.ndarray, "layers kv"]
    ranked: Sequence[tuple[int, int]]
    stops: Sequence[Stop]
    curve: Sequence[tuple[int, float, float, float]]
    sink: int
    recent: int
    context: int
    measured: str
    command: str
    config: str
    unit: str = "score"
    title: str = ""
    caption: str = ""
    start: int = 0
    libraries = ()

    def __post_init__(self) -> None:
        """Check that everything is about the same heads."""
        known = {(int(i), int(j)) for i, j in np.argwhere(np.isfinite(self.scores))}
        if set(self.ranked) != known or len(known) != len(self.ranked):
            raise BadInput(f"slider {self.title!r}: the ranking is not that of the heads that have a score")
        if not self.stops or any(not 0 <= s.full <= len(self.ranked) for s in self.stops):
            raise BadInput(f"slider {self.title!r}: a stop keeps more heads full than there are")
        if not self.curve or not 0 <= self.start < len(self.stops):
            raise BadInput(f"slider {self.title!r}: it needs a measured curve, and a start among its stops")

    @property
    def fixed(self) -> Bool[np.ndarray, "layers kv"]:
        """Heads without a score."""
        return ~np.isfinite(self.scores)

    def html(self) -> str:
        """The block as HTML."""
        grid = HeadGrid(np.asarray(self.scores, dtype=np.float64), self.ends(), width=560, height=420)
        label = f"Head map with a cut. {self.measured}"
        drawing = grid.svg(label, grid.cells() + '<path class="streams" d=""/><path class="kept" d=""/>' + grid.axes())
        last = len(self.stops) - 1
        controls = (
            f'<div class="controls"><label>full heads <input class="cut" type="range" min="0" max="{last}" step="1" '
            f'value="{self.start}"></label> <label>tokens served <input class="served" type="number" min="1" '
            f'max="100000000" step="1" value="{self.context}"></label></div>'
        )
        files = "".join(f'<option value="{i}">{esc(name)}</option>' for i, name in enumerate(FILES))
        body = (
            f'{controls}<p class="readout" aria-live="polite"></p><div class="mapandpanel"><div class="map">{drawing}</div>'
            '<div class="panel"><dl class="facts"></dl></div></div>'
            + legend(self.unit, self.ends(), bool(self.fixed.any()), _KEY)
            + f'<pre class="line" tabindex="0"><code></code></pre><p><label>file <select class="which">{files}</select>'
            '</label> <button type="button" class="keep">Save</button></p><pre class="file" tabindex="0"></pre>'
            f'<p class="note">{inline(self.measured)}</p>' + data(self._data(grid))
        )
        return figure("cutslider", self.title, body, self.caption)

    def _repr_html_(self) -> str:
        """The notebook output: the same in a frame."""
        from workbench.views.framed import framed

        return framed(self, "Where to cut", 1100)

    def ends(self) -> tuple[float, float]:
        """The ends of the colour scale."""
        known = self.scores[np.isfinite(self.scores)]
        low, high = (min(0.0, float(known.min())), float(known.max())) if known.size else (0.0, 1.0)
        return (low, high) if high > low else (low, low + 1.0)

    def _data(self, grid: HeadGrid) -> dict[str, Any]:
        """What the viewer needs; texts whose spelling must be Python's are made here."""
        heads = self.scores.shape[1]
        return {
            "shape": list(self.scores.shape), "cell": list(grid.cell), "margin": list(grid.margin),
            "ranked": [i * heads + j for i, j in self.ranked],
            "fixed": np.flatnonzero(self.fixed).tolist(),
            "stops": [[s.full, s.option, s.sparsity] for s in self.stops],
            "curve": [list(point) for point in self.curve],
            "sink": self.sink, "recent": self.recent, "command": self.command, "config": self.config,
            "files": list(FILES),
        }  # fmt: skip


FILES = ("full_attention_heads.tsv", "config.json", "retrieval.json")
"""DuoAttention's pair, and a list of full heads as MindSpore's Golden Stick reads it."""
_KEY = (
    '<span class="key"><i class="swatch kept"></i>full</span>'
    '<span class="key"><i class="swatch streaming"></i>streams</span>'
)
