"""A context with one weight per token, as a small static picture for notebook outputs: no script, no library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.views.text import esc, visible

AROUND = 10
"""Tokens shown on each side of what is marked or heavy."""
HEAVY = 6
LEAST = 0.01
_BOX = (
    "font:13px/1.9 ui-serif,Georgia,serif;max-width:70em;"
    "color:var(--jp-content-font-color1,var(--vscode-editor-foreground,CanvasText))"
)


def token_strip(
    tokens: Sequence[str], weights: Float[np.ndarray, " tokens"], marked: tuple[int, int], title: str
) -> str:
    """Tokens shaded by weight, `marked` (start, end) underlined; far from both the text is cut, and says how far.

    Raises BadInput where there is not one weight per token.
    """
    n = len(tokens)
    if np.shape(weights) != (n,):
        raise BadInput(f"weights are {np.shape(weights)} for {n} tokens")
    heavy = [int(i) for i in np.argsort(-weights)[:HEAVY] if weights[i] >= LEAST]
    keep: set[int] = set()
    for i in (0, n - 1, *range(*marked), *heavy):
        keep.update(range(max(0, i - AROUND), min(n, i + AROUND + 1)))
    parts, last = [], -1
    for i in sorted(keep):
        if i > last + 1:
            parts.append(f"<i style='opacity:.7'>… {i - last - 1:,} tokens …</i>")
        parts.append(_token(i, tokens[i], float(weights[i]), marked[0] <= i < marked[1]))
        last = i
    return (
        f"<div style='{_BOX}'><b style='font-family:system-ui,sans-serif'>{esc(title)}</b><br>{' '.join(parts)}</div>"
    )


def _token(place: int, token: str, weight: float, marked: bool) -> str:
    line = ";border-bottom:2px solid #d55e00" if marked else ""
    shade = f"background:rgba(0,114,178,{min(0.85, weight):.2f})" if weight >= LEAST / 2 else ""
    told = f"{visible(token)} at {place}: {weight:.3f}"
    return f"<span title=\"{esc(told)}\" style='{shade}{line}'>{esc(visible(token))}</span>"
