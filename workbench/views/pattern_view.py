"""Attention maps of every head over a long text: a sheet of thumbnails, one head in blocks, and its exact rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from workbench.errors import BadInput
from workbench.views.block import blob, data, figure
from workbench.views.colours import CIVIDIS
from workbench.views.pattern_tiles import LEAST, TOP, Tile, levels
from workbench.views.text import esc, number, visible

CHANNELS = ("mass", "largest weight")
KEPT_BITS = np.uint32(0xFFFFF000)
"""Weights of exact rows keep 11 bits after the leading one (within 0.03 %); the zeros behind them compress."""


@dataclass(frozen=True, eq=False)
class ExactRows:
    """The largest weights of some rows (tokens that read), of some heads, with the columns of their keys (-1: no more)."""

    positions: Sequence[int] = ()
    heads: Sequence[tuple[int, int]] = ()
    keys: Int[np.ndarray, "heads rows k"] = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.int64))
    weights: Float[np.ndarray, "heads rows k"] = field(default_factory=lambda: np.zeros((0, 0, 0)))


@dataclass(frozen=True, eq=False)
class PatternView:
    """Patterns of `layers` × `heads` over `tokens`; texts of 128k tokens in 1,024 heads fit into 2 MB.

    overview: the mean over a block's queries of the mass on its keys, in n × n blocks of ceil(tokens / n) tokens (channel 0
    of the probe `thumbnail`); NaN where a layer has no attention. tiles: finer parts, see Tile; the viewer shows the finest
    it has. received_keys, received: the keys that receive most in each head (mean over the queries that see them), drawn
    as ticks at their exact positions; key -1 is none. rows: see ExactRows. spans (name -> start, end) are marked on both
    axes. Maps are stored in 64 logarithmic levels, within 12 %. Raises BadInput where shapes do not fit.
    """

    tokens: Sequence[str]
    overview: Float[np.ndarray, "layers heads n n"]
    received_keys: Int[np.ndarray, "layers heads k"]
    received: Float[np.ndarray, "layers heads k"]
    tiles: Sequence[Tile] = ()
    rows: ExactRows = field(default_factory=ExactRows)
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    title: str = ""
    caption: str = ""
    libraries = ()

    def __post_init__(self) -> None:
        """Check the shapes."""
        shape, where = np.shape(self.overview), f"pattern view {self.title!r}"
        if len(shape) != 4 or shape[2] != shape[3] or 0 in shape or not len(self.tokens):
            raise BadInput(f"{where}: overview is {shape}, expected [layers, heads, n, n], and at least one token")
        if np.shape(self.received)[:2] != shape[:2] or np.shape(self.received_keys) != np.shape(self.received):
            raise BadInput(f"{where}: received is {np.shape(self.received)}, expected {shape[:2]} + (k,), keys alike")
        front = (len(self.rows.heads), len(self.rows.positions))
        if np.shape(self.rows.keys)[:2] != front or np.shape(self.rows.keys) != np.shape(self.rows.weights):
            raise BadInput(f"{where}: exact rows are {np.shape(self.rows.keys)}, names say {front} + (k,)")
        outside = [h for h in (*self.rows.heads, *(t.head for t in self.tiles)) if not _in(h, shape)]
        if outside:
            raise BadInput(f"{where}: head {outside[0]} is outside {shape[0]} x {shape[1]}")
        for name, (start, end) in {**self.spans, **{f"row {p}": (p, p + 1) for p in self.rows.positions}}.items():
            if not 0 <= start < end <= len(self.tokens):
                raise BadInput(f"{where}: {name!r} ({start}, {end}) is outside the {len(self.tokens):,} tokens")

    def html(self) -> str:
        """The block as HTML."""
        body = (
            f'{self._controls()}<div class="patterns">{self._sheet()}<div class="one">{_FIELD}'
            '<p class="readout" aria-live="polite"></p><p class="where note"></p><div class="keys"></div></div></div>'
            f"{self._legend()}{data(self._data())}{self._blobs()}"
        )
        return figure("patterns", self.title, body, self.caption)

    def sentence(self) -> str:
        """What is shown, and the key that receives most, in words."""
        layers, heads, n, _ = np.shape(self.overview)
        what = f"Attention of {layers * heads:,} heads over {len(self.tokens):,} tokens in {n} × {n} blocks"
        if not np.isfinite(self.received).any():
            return what
        layer, head, place = np.unravel_index(int(np.nanargmax(self.received)), np.shape(self.received))
        most = number(float(self.received[layer, head, place]), 2)
        return f"{what}; most received: {most} by key {self.received_keys[layer, head, place]:,} in L{layer}H{head}"

    def low(self) -> int:
        """The level from which colours differ: all but the faintest hundredth of the cells."""
        stored = np.concatenate([levels(a).reshape(-1) for a in (self.overview, *(t.cells[0] for t in self.tiles))])
        known = stored[(stored > 0) & (stored <= TOP)]
        return min(int(np.percentile(known, 1)), TOP - 1) if known.size else 1

    def _first(self, heads: int, received: Float[np.ndarray, "layers heads k"]) -> int:
        """The head that is shown first: one with finer parts, else the one with the most received key."""
        if self.tiles:
            return self.tiles[0].head[0] * heads + self.tiles[0].head[1]
        return int(received.max(-1).argmax())

    def _controls(self) -> str:
        channels = "".join(f'<option value="{i}">{name}</option>' for i, name in enumerate(CHANNELS))
        named = [f"{p:,} {visible(self.tokens[p])}" for p in self.rows.positions]
        options = "".join(f'<option value="{i}">{esc(name)}</option>' for i, name in enumerate(named))
        row = f'<label>exact row of <select class="row"><option value="">none</option>{options}</select></label>'
        buttons = "".join(f'<button type="button" data-zoom="{by}">{word}</button>' for by, word in _ZOOMS.items())
        return (
            f'<div class="controls"><label>show <select class="channel">{channels}</select></label>{row}'
            f"<span>{buttons}</span></div>"
        )

    def _sheet(self) -> str:
        layers, heads, _, _ = np.shape(self.overview)
        name = esc(f"Thumbnails. {self.sentence()}. Arrow keys move between heads, Enter goes to the head's map.")
        wide = min(720, 60 * heads)
        ring = f'<i class="ring" style="width:{100 / heads:.4f}%;height:{100 / layers:.4f}%"></i>'
        return (
            f'<div class="sheet" style="max-width:{wide}px">{_ticks(heads, "heads")}{_ticks(layers, "layers")}'
            f'<div class="overview" tabindex="0" role="application" aria-label="{name}"><canvas></canvas>{ring}</div></div>'
        )

    def _legend(self) -> str:
        ends = LEAST ** (1 - (np.array([self.low(), (self.low() + TOP) / 2, TOP]) - 1) / (TOP - 1))
        ticks = "".join(f"<span>{end:.2g}</span>" for end in ends)
        spans = "".join(
            f'<span class="key"><i class="swatch band{i % 3}"></i>{esc(name)} ({start:,}–{end - 1:,})</span>'
            for i, (name, (start, end)) in enumerate(self.spans.items())
        )
        return (
            '<div class="legend"><span class="unit">attention (logarithmic)</span><span class="scale">'
            f'<i style="background:linear-gradient(90deg,{",".join(CIVIDIS)})"></i><span class="ticks">{ticks}</span></span>'
            f'<span class="key"><i class="swatch tick"></i>keys that receive most</span>{spans}'
            '<span class="key">thumbnails: heads across, layers down; maps: keys across, queries down</span></div>'
        )

    def _data(self) -> dict[str, object]:
        layers, heads, n, _ = np.shape(self.overview)
        known = np.nan_to_num(np.asarray(self.received, dtype=np.float64), nan=-1.0)
        weights = [
            [round(float(w), 5) for k, w in zip(*pair) if k >= 0]
            for pair in zip(self._keys(), known.reshape(layers * heads, -1))
        ]
        return {
            "shape": [layers, heads],
            "side": n,
            "length": len(self.tokens),
            "first": self._first(heads, known),
            "low": self.low(),
            "colours": CIVIDIS,
            "channels": CHANNELS,
            "spans": [[name, *span] for name, span in self.spans.items()],
            "received": {"keys": [[int(k) for k in keys if k >= 0] for keys in self._keys()], "weights": weights},
            "rows": {
                "positions": list(self.rows.positions),
                "heads": [layer * heads + head for layer, head in self.rows.heads],
                "k": int(np.shape(self.rows.keys)[2]),
            },
            "tiles": [tile_facts(t, heads) for t in self.tiles],
        }

    def _keys(self) -> Int[np.ndarray, "heads k"]:
        layers, heads, _, _ = np.shape(self.overview)
        keys = np.where(np.isfinite(self.received), self.received_keys, -1)
        return keys.reshape(layers * heads, -1)

    def _blobs(self) -> str:
        tiles = b"".join(levels(t.cells).tobytes() for t in self.tiles)
        keys, weights = (np.asarray(a).reshape(-1) for a in (self.rows.keys, self.rows.weights))
        kept = np.where(keys >= 0, weights, 0).astype("<f4").view("<u4") & KEPT_BITS
        rows = np.maximum(keys, 0).astype("<u4").tobytes() + kept.tobytes()
        texts = json.dumps([visible(t) for t in self.tokens], ensure_ascii=False).encode("utf-8", "replace")
        held = {"overview": levels(self.overview).tobytes(), "tiles": tiles, "rows": rows, "texts": texts}
        return "".join(blob(name, content) for name, content in held.items())


_FIELD = (
    '<div class="field" tabindex="0" role="application" aria-label="The chosen head: drag to zoom, plus and minus zoom, '
    'arrow keys move, Escape shows the whole"><canvas></canvas></div>'
)
_ZOOMS = {"0.5": "Zoom in", "2": "Zoom out", "0": "Whole"}


def tile_facts(tile: Tile, heads: int) -> list[int]:
    """A tile without its cells, as the viewer reads it."""
    channels, rows, columns = np.shape(tile.cells)
    return [tile.head[0] * heads + tile.head[1], tile.query, tile.key, tile.tall, tile.wide, rows, columns, channels]


def _in(head: tuple[int, int], shape: Sequence[int]) -> bool:
    return 0 <= head[0] < shape[0] and 0 <= head[1] < shape[1]


def _ticks(count: int, axis: str) -> str:
    """Numbers along an edge of the sheet, at most eight."""
    side = "left" if axis == "heads" else "top"
    step = max(1, -(-count // 8))
    marks = "".join(f'<span style="{side}:{(i + 0.5) / count:.2%}">{i}</span>' for i in range(0, count, step))
    return f'<div class="{axis}" aria-hidden="true">{marks}</div>'
