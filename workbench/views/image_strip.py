"""What one head looked at as each word was written, as a row of small pictures for notebook outputs: no script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from workbench.errors import BadInput
from workbench.views.colours import cividis
from workbench.views.png import png_uri
from workbench.views.text import esc, number, visible

if TYPE_CHECKING:
    from workbench.visual.looks import Looks, Said

MOST = 12
"""Words shown at most: those that name objects first."""
SIDE = 96
"""Pixels of a small picture's longer side, at most."""
_INK = "color:var(--jp-content-font-color1,var(--vscode-editor-foreground,CanvasText))"
_MARKS = {
    True: "text-decoration:underline wavy #d55e00;font-weight:600", False: "text-decoration:underline dotted #009e73",
    None: "",
}  # fmt: skip


def image_strip(looks: Looks, head: tuple[int, int], title: str = "", opacity: float = 0.6) -> str:
    """A picture a word, with the head's attention in cividis over it, each from 0 to its own largest weight.

    Invented words are underlined with waves. Raises BadInput for a head that is not there.
    """
    layers, heads = looks.mass.shape[1:]
    if not (0 <= head[0] < layers and 0 <= head[1] < heads):
        raise BadInput(f"head {head} is outside {layers} x {heads}")
    pixels, parts = _smaller(looks.pixels), []
    for i in _chosen(looks.words):
        levels, word = looks.levels[0][(i, *head)], looks.words[i]
        mass = f"{number(float(looks.mass[(i, *head)]), 2)} on the picture"
        told = f"{visible(word.text)}: {mass}{', not in the picture' if word.invented else ''}"
        shown = png_uri(laid_over(pixels, levels, looks.grids[0].box, opacity))
        parts.append(
            f'<div style="text-align:center"><img alt="{esc(told)}" title="{esc(told)}" width="{SIDE}" '
            f'style="image-rendering:pixelated" src="{shown}"><br><span style="{_MARKS[word.invented]}">'
            f'{esc(visible(word.text))}</span><br><small style="opacity:.8">{mass}</small></div>'
        )
    return (
        f'<div style="font:13px/1.5 system-ui,sans-serif;{_INK}"><b>{esc(title or f"L{head[0]}H{head[1]}: {looks.name}")}'
        f'</b><div style="display:flex;flex-wrap:wrap;gap:8px 14px;margin-top:6px">{"".join(parts)}</div></div>'
    )


def said_html(words: Sequence[Said]) -> str:
    """A caption; words of objects are underlined, with waves where these are not in the picture."""
    return " ".join(
        f'<span style="{_MARKS[word.invented]}" title="{esc(word.object)}">{esc(visible(word.text))}</span>'
        if word.object
        else esc(visible(word.text))
        for word in words
    )


def laid_over(
    pixels: UInt8[np.ndarray, "y x 3"],
    levels: UInt8[np.ndarray, "rows columns"],
    box: tuple[float, float, float, float],
    opacity: float,
) -> UInt8[np.ndarray, "y x 3"]:
    """A picture with a map over it. box: the part that the map covers, in shares of width and height."""
    (height, width), (rows, columns) = pixels.shape[:2], levels.shape
    down = _cells(height, box[1], box[3], rows)
    across = _cells(width, box[0], box[2], columns)
    inside = ((down >= 0) & (down < rows))[:, None] & ((across >= 0) & (across < columns))[None]
    colours = np.array([cividis(i / 255) for i in range(256)], dtype=float)
    over = colours[levels[down.clip(0, rows - 1)][:, across.clip(0, columns - 1)]]
    mixed = pixels * (1 - opacity) + over * opacity
    return np.where(inside[..., None], mixed, pixels).round().astype(np.uint8)


def _cells(length: int, start: float, end: float, count: int) -> np.ndarray:
    """The cell of each pixel's middle."""
    middle: Float[np.ndarray, " length"] = (np.arange(length) + 0.5) / length
    return np.floor((middle - start) / (end - start) * count).astype(int)


def _chosen(words: tuple[Said, ...]) -> list[int]:
    named = [i for i, word in enumerate(words) if word.object]
    rest = [i for i in range(len(words)) if i not in named]
    return sorted((named or rest)[:MOST])


def _smaller(pixels: UInt8[np.ndarray, "y x 3"]) -> UInt8[np.ndarray, "y x 3"]:
    """Every n-th pixel of a large picture."""
    step = -(-max(pixels.shape[:2]) // SIDE)
    return pixels[::step, ::step]
