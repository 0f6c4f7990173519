"""The atlas: every score of every head as a map, two of them as a scatter, and a card of the head that is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from workbench.errors import BadInput
from workbench.views.block import blob, data, figure
from workbench.views.colours import CIVIDIS, NO_SCORE, OKABE_ITO
from workbench.views.head_grid import HeadGrid
from workbench.views.text import esc

DIGITS = 4
"""Significant digits of scores in the page; files hold them in full."""
MODELS = 2


@dataclass(frozen=True)
class AtlasScore:
    """What a score is called and means. n: texts or prompts behind it. version: empty where there is one only."""

    key: str
    title: str
    unit: str
    help: str
    n: int
    version: str = ""


@dataclass(frozen=True, eq=False)
class AtlasPicture:
    """A prompt. levels: its pattern in n × n blocks, 0 … levels - 1. spans: named parts as shares of its length."""

    name: str
    spans: Mapping[str, tuple[float, float]]
    levels: UInt8[np.ndarray, "layers heads n n"]


@dataclass(frozen=True, eq=False)
class AtlasSide:
    """One model. values: by key of a score, (value, low, high) of every head. profiles: mass by distance, by version.

    reads, shares: of each head, places in `words` of the tokens that it reads most, and their shares of its attention.
    raised: of its first tokens in `reads`, places in `raised_words` of the tokens whose logits it raises when it reads them.
    """

    label: str
    kv_heads: int
    values: Mapping[str, tuple[Float[np.ndarray, "l h"], Float[np.ndarray, "l h"], Float[np.ndarray, "l h"]]]
    profiles: Mapping[str, Float[np.ndarray, "l h bins"]]
    words: Sequence[str]
    reads: Int[np.ndarray, "l h k"]
    shares: Float[np.ndarray, "l h k"]
    pictures: Sequence[AtlasPicture]
    raised_words: Sequence[str] = ()
    raised: Int[np.ndarray, "l h w k"] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads."""
        return next(iter(self.values.values()))[0].shape  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, eq=False)
class HeadAtlas:
    """Maps, scatter and cards of one or two models. x, y: keys of the scores that are shown first; levels: of pictures.

    Raises `BadInput` for more models, or where x or y is no score.
    """

    scores: Sequence[AtlasScore]
    sides: Sequence[AtlasSide]
    x: str
    y: str
    levels: int
    caption: str = ""
    export: str = ""
    libraries = ()

    def __post_init__(self) -> None:
        """Check the models and the names."""
        if not 1 <= len(self.sides) <= MODELS:
            raise BadInput(f"atlas: {len(self.sides)} models; one or two can be shown")
        known = {s.key for s in self.scores}
        for key in (self.x, self.y):
            if key not in known:
                raise BadInput(f"atlas: no score {key!r}")

    def html(self) -> str:
        """The block as HTML: frames that the viewer fills."""
        maps = "".join(self._map(i) for i in range(len(self.sides)))
        pick = "".join(f'<option value="{i}">{esc(_said(s))}</option>' for i, s in enumerate(self.scores))
        names = ("json", "scores.json", "DuoAttention", "QRHead")
        files = "".join(f"<option>{name}</option>" for name in names)
        controls = (
            f'<div class="controls"><label>Colour and x <select class="x">{pick}</select></label> '
            f'<label>y <select class="y">{pick}</select></label></div>'
        )
        chosen = (
            '<div class="controls selection"><output></output> <label>Top <input class="k" type="number" min="1" value="10">'
            '</label> <button type="button" class="top">Select</button> <button type="button" class="toggle">This head'
            f'</button> <button type="button" class="none">None</button> <label>File <select class="file">{files}</select>'
            '</label> <button type="button" class="hand">Download selection</button></div>'
        )
        body = (
            f'{controls}<p class="help note"></p><div class="maps">{maps}</div><div class="scale legend"></div>'
            f'<div class="pair"><div class="cloud"></div></div>{chosen}<p class="note export"></p>'
            f'<div class="cards" aria-live="polite"></div>{data(self._data())}{"".join(self._blobs())}'
        )
        return figure("headatlas", "", body, self.caption)

    def _map(self, i: int) -> str:
        side = self.sides[i]
        values = side.values[self.x][0] if self.x in side.values else np.full(side.shape, np.nan)
        grid = HeadGrid(np.asarray(values, dtype=np.float64), (0.0, 1.0), side.kv_heads, width=900 // len(self.sides))
        (x0, y0), (w, h), (layers, heads) = grid.margin, grid.cell, side.shape
        place = f'x="{x0}" y="{y0}" width="{w * heads}" height="{h * layers}"'
        inside = (
            f'<image class="cells" {place} preserveAspectRatio="none"/>{grid.outlines()}{grid.axes()}'
            '<path class="some" d=""/><path class="chosen" d=""/>'
        )
        label = f"Map of all heads of {side.label}, layers down, heads across. Arrow keys move, space selects."
        return (
            f'<div><h3>{esc(side.label)}</h3><div class="map sized" tabindex="0" role="application" style="--w:'
            f'{grid.size[0]}px" aria-label="{esc(label)}" data-x="{x0}" data-y="{y0}" data-w="{w}" data-h="{h}">'
            f"{grid.svg(label, inside)}</div></div>"
        )

    def _data(self) -> dict[str, Any]:
        scores = [[s.key, s.title, s.unit, s.help, s.n, s.version] for s in self.scores]
        keys = [s.key for s in self.scores]
        return {
            "scores": scores, "x": keys.index(self.x), "y": keys.index(self.y), "levels": self.levels,
            "export": self.export, "colours": [*CIVIDIS, NO_SCORE], "marks": list(OKABE_ITO[:MODELS]),
            "sides": [self._side(s) for s in self.sides],
        }  # fmt: skip

    def _side(self, side: AtlasSide) -> dict[str, Any]:
        return {
            "label": side.label, "shape": list(side.shape), "kv": side.kv_heads,
            "values": [self._values(side, s.key) for s in self.scores],
            "profiles": {v: short(x, 3) for v, x in side.profiles.items()},
            "words": list(side.words), "reads": _by_head(side.reads),
            "shares": _by_head(np.round(side.shares, 3)),
            "raised": None if side.raised is None else [list(side.raised_words), _by_head(side.raised)],
            "pictures": [
                [p.name, p.levels.shape[-1], [[k, *np.round(v, 4)] for k, v in p.spans.items()]] for p in side.pictures
            ],
        }  # fmt: skip

    def _values(self, side: AtlasSide, key: str) -> list[Any] | None:
        """Value, low and high of every head; bounds need fewer digits."""
        if key not in side.values:
            return None
        value, low, high = side.values[key]
        return [short(value), short(low, 3), short(high, 3)]

    def _blobs(self) -> list[str]:
        """The lower triangle of every pattern, head after head."""
        out = []
        for i, side in enumerate(self.sides):
            for j, p in enumerate(side.pictures):
                rows, columns = np.tril_indices(p.levels.shape[-1])
                out.append(blob(f"p{i}.{j}", p.levels[..., rows, columns].astype(np.uint8).tobytes()))
        return out


def short(x: Float[np.ndarray, "*shape"], digits: int = DIGITS) -> list[Any]:
    """Numbers of a few significant digits, head after head; what is missing everywhere is one null."""
    flat = np.asarray(x, dtype=np.float64).reshape(int(np.prod(x.shape[:2])), *x.shape[2:])
    if np.isnan(flat).all():
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(flat)))
        power = 10.0 ** np.clip(np.nan_to_num(places, posinf=0.0), -12, 12)
        rounded = np.round(flat * power) / power
    return np.where(flat == 0, 0.0, rounded).tolist()


def _by_head(x: Shaped[np.ndarray, "l h *rest"]) -> list[Any]:
    return x.reshape(-1, *x.shape[2:]).tolist()


def _said(score: AtlasScore) -> str:
    return f"{score.title} ({score.version})" if score.version else score.title
