"""What a head looked at in a picture, laid over it: word by word, all heads browsable, invented words marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import BadInput, TooLarge
from workbench.views.block import blob, data, disclosure, figure
from workbench.views.colours import CIVIDIS, cividis, hexed
from workbench.views.image_strip import image_strip
from workbench.views.picture import SMALL, picture_uri
from workbench.views.text import esc, number, visible

if TYPE_CHECKING:
    from workbench.visual.looks import Looks, Said

MOST = 6_000_000
"""Bytes of maps that one figure may hold, before they are packed."""
LEGEND = (
    ("invented", "names an object that is not in the picture"), ("there", "names an object that is"),
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class ImageOverlay:
    """Pictures with the attention of one head at one word over them (`workbench.visual.look_at` collects it).

    heads: (layer, head) whose maps the page holds, of all those whose attention on the picture is shown; None: all. The
    overlay is cividis from 0 to the map's largest weight, which the legend gives. Raises `BadInput` for no picture, no
    word or a head that is not there, `TooLarge` for more maps than a page should hold.
    """

    looks: Sequence[Looks]
    heads: Sequence[tuple[int, int]] | None = None
    title: str = ""
    caption: str = ""
    libraries = ()

    def __post_init__(self) -> None:
        """Check that there is something to show and that it fits."""
        if not self.looks or not all(one.words for one in self.looks):
            raise BadInput(f"image overlay {self.title!r}: give pictures, each with at least a word")
        shape = self._shape()
        if any(one.mass.shape[1:] != shape for one in self.looks):
            raise BadInput(f"image overlay {self.title!r}: the pictures were seen by models of other sizes")
        outside = [h for h in self.heads or () if not (0 <= h[0] < shape[0] and 0 <= h[1] < shape[1])]
        if outside or (self.heads is not None and not len(self.heads)):
            said = f"head {tuple(outside[0])} is outside {shape[0]} x {shape[1]}" if outside else "no head was chosen"
            raise BadInput(f"image overlay {self.title!r}: {said}")
        size = sum(levels.size for one in self.looks for levels in one.levels)
        size = size // (shape[0] * shape[1]) * len(self._kept())
        if size > MOST:
            raise TooLarge(
                f"image overlay {self.title!r}: {size / 1e6:.0f} MB of maps, at most {MOST / 1e6:.0f}: give heads=, the "
                "best of a score, or fewer pictures"
            )

    def html(self) -> str:
        """The block as HTML."""
        first = self.looks[0]
        name = f"{self.finding()}. Arrow keys choose a head: left and right in its layer, up and down between layers."
        body = (
            f'<div class="controls">{self._controls()}</div><div class="sides">'
            f'<div class="frame" tabindex="0" role="application" aria-label="{esc(name)}">{self._pictures()}'
            f'<canvas role="img" aria-label="{esc(self.finding())}"></canvas></div>'
            f'<div class="panel"><p class="readout" aria-live="polite"></p>{self._words()}'
            '<canvas class="heads" tabindex="0" role="application" aria-label="Attention of each head on the picture, '
            'layers down, heads across. Arrow keys choose a head."></canvas>'
            '<p class="note">Each cell: a head’s attention on the whole picture at this word, layers down, heads across. '
            "Click a part of the picture to shade the words by what they pay to it.</p></div></div>"
            f"{_legend(any(word.object for word in first.words))}"
            f"{disclosure('The same as a table', self._table())}{data(self._data())}{self._levels()}"
        )
        return figure("overlay", self.title, body, self.caption)

    def __repr__(self) -> str:
        return f"ImageOverlay({self.finding()}; {len(self.looks)} pictures)"

    def _repr_html_(self) -> str:
        """The head that looks most at each picture at the word that is shown first, as small pictures."""
        strips = []
        for one in self.looks:
            layer, head, _ = _most(one.mass[_start(one.words)])
            strips.append(image_strip(one, (layer, head)))
        return "".join(strips)

    def finding(self) -> str:
        """The head that looks most at the first picture at the word that is shown first."""
        one, word = self.looks[0], _start(self.looks[0].words)
        layer, head, mass = _most(one.mass[word])
        return (
            f"At “{one.words[word].text}” L{layer}H{head} looks most at {one.name}: {number(mass, 2)} of its attention"
        )

    def _shape(self) -> tuple[int, int]:
        layers, heads = self.looks[0].mass.shape[1:]
        return layers, heads

    def _kept(self) -> list[tuple[int, int]]:
        layers, heads = self._shape()
        every = [(i, j) for i in range(layers) for j in range(heads)]
        return every if self.heads is None else [(int(i), int(j)) for i, j in self.heads]

    def _first(self) -> tuple[int, int]:
        masses = np.nan_to_num(self.looks[0].mass[_start(self.looks[0].words)], nan=-1.0)
        return max(self._kept(), key=lambda head: float(masses[head]))

    def _controls(self) -> str:
        pictures = _choice("picture", [one.name for one in self.looks]) if len(self.looks) > 1 else ""
        views = max((one.grids for one in self.looks), key=len)
        return (
            f"{pictures}{_choice('view', [grid.name for grid in views]) if len(views) > 1 else ''}"
            '<label>overlay <input type="range" min="0" max="1" step="0.05" value="0.5"></label>'
            '<label><input type="checkbox"> smooth</label>'
        )

    def _pictures(self) -> str:
        out = []
        for i, one in enumerate(self.looks):
            small = ' class="small"' if one.pixels.shape[0] * one.pixels.shape[1] <= SMALL else ""
            away = " hidden" if i else ""
            out.append(f'<img{small}{away} alt="{esc(one.name)}" src="{picture_uri(one.pixels)}">')
        return "".join(out)

    def _words(self) -> str:
        out = []
        for i, one in enumerate(self.looks):
            buttons = " ".join(
                f'<button type="button" tabindex="-1" aria-pressed="false"{_marked(word)}>{esc(visible(word.text))}</button>'
                for word in one.words
            )
            away = " hidden" if i else ""
            out.append(f'<p class="said"{away} role="group" aria-label="Words about {esc(one.name)}">{buttons}</p>')
        return "".join(out)

    def _table(self) -> str:
        rows = []
        for one in self.looks:
            for i, word in enumerate(one.words):
                layer, head, mass = _most(one.mass[i])
                there = {True: "no", False: "yes", None: ""}[word.invented]
                cells = "".join(
                    f"<td>{x}</td>" for x in (esc(one.name), esc(visible(word.text)), there, f"L{layer}H{head}")
                )
                rows.append(f'<tr>{cells}<td class="num">{number(mass)}</td></tr>')
        names = ("picture", "word", "in the picture", "head that looks most at it", "its attention on it")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"

    def _data(self) -> dict[str, object]:
        kept = self._kept()
        return {
            "shape": self._shape(),
            "heads": kept,
            "first": kept.index(self._first()),
            "colours": [list(cividis(i / 255)) for i in range(256)],
            "pictures": [
                {
                    "name": one.name, "start": _start(one.words), "mass": np.round(one.mass.astype(float), 4),
                    "tops": [[round(float(at[h]), 6) for h in kept] for at in one.tops],
                    "views": [[*grid.columns.shape, *np.round(grid.box, 5).tolist()] for grid in one.grids],
                }
                for one in self.looks
            ],
        }  # fmt: skip

    def _levels(self) -> str:
        """Bytes of each picture: [words, kept heads, rows, columns] of one view after the other."""
        layers, heads = zip(*self._kept(), strict=True)
        out = []
        for i, one in enumerate(self.looks):
            held = b"".join(np.ascontiguousarray(x[:, list(layers), list(heads)]).tobytes() for x in one.levels)
            out.append(blob(f"levels{i}", held))
        return "".join(out)


def _start(words: Sequence[Said]) -> int:
    """The word that is shown first: an invented one, or one that names an object, or the last."""
    marks = [(bool(word.invented), bool(word.object)) for word in words]
    return marks.index(max(marks)) if any(any(m) for m in marks) else len(words) - 1


def _most(mass: np.ndarray) -> tuple[int, int, float]:
    layer, head = divmod(int(np.nanargmax(mass)), mass.shape[1]) if not np.isnan(mass).all() else (0, 0)
    return layer, head, float(mass[layer, head])


def _marked(word: Said) -> str:
    if not word.object:
        return ""
    kind = "invented" if word.invented else "there" if word.invented is False else "object"
    said = {"invented": "not in the picture", "there": "in the picture", "object": "an object"}[kind]
    return f' class="{kind}" title="{esc(word.object)}: {said}" aria-label="{esc(word.text)}, {said}"'


def _legend(objects: bool) -> str:
    keys = "".join(f'<span class="key"><u class="{kind}">word</u> {what}</span>' for kind, what in LEGEND)
    bar = ",".join(hexed(cividis(i / 9)) for i in range(len(CIVIDIS)))
    return (
        '<div class="legend"><span class="unit">attention weight (linear)</span><span class="scale">'
        f'<i style="background:linear-gradient(90deg,{bar})"></i><span class="ticks"><span>0</span>'
        f'<span class="top"></span></span></span>{keys if objects else ""}</div>'
    )


def _choice(name: str, options: Sequence[str]) -> str:
    inner = "".join(f'<option value="{i}">{esc(option)}</option>' for i, option in enumerate(options))
    return f'<label>{name} <select class="{name}">{inner}</select></label>'
