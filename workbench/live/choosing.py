"""A head map in a notebook whose selection is a Python list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from workbench.heads import HeadScores
from workbench.live.widget import live
from workbench.views.head_map import HeadMap


def choose_heads(scores: HeadScores, heads: Sequence[tuple[int, int]] = (), title: str = "") -> Any:
    """The scores as a map; `.heads` is the list that the reader picks (at first `heads`), `.chosen` the head shown.

    `wb.mask(widget.heads)` takes the list as it is. Setting `.chosen` shows a head.
    """
    html, given = head_picker(scores, heads, title)
    return live(html, scores._repr_html_(), heads=given)


def head_picker(
    scores: HeadScores, heads: Sequence[tuple[int, int]] = (), title: str = ""
) -> tuple[str, list[list[int]]]:  # fmt: skip
    """The blocks of `choose_heads` as HTML, and the first list."""
    low, high = scores.interval()
    block = HeadMap(
        scores.values, title or scores.method, scores.describe(), low=low, high=high, kv_heads=scores.kv_heads,
        samples=scores.per_sample,
    )  # fmt: skip
    given = [[int(layer), int(head)] for layer, head in heads]
    picked = (
        f'<div data-block="selection" data-heads="{json.dumps(given)}" class="controls" role="group" '
        'aria-label="Picked heads"><button type="button" class="toggle"></button>'
        '<button type="button" class="clear">Clear</button><span class="list" aria-live="polite"></span></div>'
    )
    return block.html() + picked, given
