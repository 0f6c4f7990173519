"""A pattern view as plain HTML, for notebooks that are read where no script runs: thumbnails, and what receives most."""

from __future__ import annotations

import numpy as np

from workbench.views.colours import cividis
from workbench.views.pattern_tiles import TOP, UNKNOWN, levels
from workbench.views.pattern_view import PatternView
from workbench.views.png import png_uri
from workbench.views.text import esc, number, visible

PICTURED = 64
"""Heads up to which the thumbnails are drawn; above, a notebook would carry too much."""
LISTED = 10


def static_html(view: PatternView) -> str:
    """The finding, the thumbnails of up to 64 heads, and the ten keys that receive most in any head."""
    layers, heads, _, _ = np.shape(view.overview)
    sheet = _sheet(view) if layers * heads <= PICTURED else ""
    rows = "".join(f"<tr>{''.join(f'<td>{esc(cell)}</td>' for cell in row)}</tr>" for row in _most(view))
    return (
        f'<div style="font:13px system-ui,sans-serif;overflow-wrap:anywhere"><p><b>{esc(view.title)}</b>: '
        f"{esc(view.sentence())}.</p>{sheet}<table><thead><tr><th>head</th><th>key</th><th>token</th><th>received</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _sheet(view: PatternView) -> str:
    layers, heads, n, _ = np.shape(view.overview)
    low = view.low()
    ramp = [cividis((max(i - low, 0)) / (TOP - low)) for i in range(TOP + 1)]
    colours = np.array([*ramp, *[(185, 185, 185)] * (UNKNOWN - TOP)], dtype=np.uint8)
    pixels = np.pad(colours[levels(view.overview)], ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    flat = pixels.transpose(0, 2, 1, 3, 4).reshape(layers * (n + 2), heads * (n + 2), 3)
    name = esc(f"Thumbnails, layers down, heads across. {view.sentence()}")
    style = "max-width:100%;height:auto;image-rendering:pixelated"
    return f'<img alt="{name}" width="{min(720, 60 * heads)}" style="{style}" src="{png_uri(flat)}">'


def _most(view: PatternView) -> list[tuple[str, str, str, str]]:
    known = np.where(np.isfinite(view.received) & (view.received_keys >= 0), view.received, -1.0)
    best = [np.unravel_index(i, known.shape) for i in np.argsort(-known, axis=None, kind="stable")[:LISTED]]
    keys = [(i, j, int(view.received_keys[i, j, k]), float(known[i, j, k])) for i, j, k in best if known[i, j, k] > 0]
    return [(f"L{i}H{j}", f"{key:,}", visible(view.tokens[key]), number(w)) for i, j, key, w in keys]
