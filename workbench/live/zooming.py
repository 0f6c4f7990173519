"""A pattern view in a notebook: a zoom makes its part of the pattern again, in finer blocks, down to single weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jaxtyping import Int
from torch import Tensor

from workbench.errors import BadInput
from workbench.live.widget import Answers, live
from workbench.observation import observe
from workbench.probes import region, strongest, top_keys
from workbench.views.observed_patterns import KEPT_KEYS, long_patterns, pattern_probes
from workbench.views.pattern_picture import static_html
from workbench.views.pattern_tiles import Tile, levels
from workbench.views.pattern_view import tile_facts

BLOCKS = 64
"""Blocks a side that a zoom is made of (FINE in patterns.js)."""
LISTED = 10
"""Single weights that are listed beside a zoom."""
Asked = Mapping[str, Any]


def zoom_patterns(
    model: Any,
    text: str | Int[Tensor, "1 n"],
    *,
    rows: Sequence[int] = (-1,),
    spans: Mapping[str, tuple[int, int]] | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
) -> Any:
    """The attention of every head over a text (or the ids of one), as `wb.views.long_patterns` shows it, live.

    rows, spans, heads: see `long_patterns`; here every head has exact rows, and a zoom lists its largest single weights.
    Edits that are active in `wb.intervene` are in the first picture only. Raises Unsupported without anywidget; BadInput
    for more than one text.
    """
    ids = model.tokens(text) if isinstance(text, str) else text
    if ids.shape[0] != 1:
        raise BadInput(f"zoom_patterns: {ids.shape[0]} texts; give one")
    words = [str(model.tokenizer.decode([i])) for i in ids[0].tolist()]
    found = observe(model, ids, pattern_probes(rows))
    view = long_patterns(found, words, rows=rows, spans=spans, heads=heads)
    return live(view.html(), static_html(view), answers(model, ids))


def answers(model: Any, ids: Int[Tensor, "1 n"]) -> Answers:
    """What the view asks of the kernel, by name."""
    return {
        name: partial(ask, model, ids) for name, ask in (("region", finer), ("largest", largest), ("row", exact_row))
    }


def finer(model: Any, ids: Int[Tensor, "1 n"], asked: Asked) -> tuple[dict[str, Any], bytes]:
    """One head's region {head, queries, keys} as a tile and its levels; raises BadInput for a region off the text."""
    layer, head, queries, keys = _part(asked)
    found = observe(model, ids, [region(queries, keys, BLOCKS, [head])])["region"][layer, 0, 0]
    tall, wide = (-(-(b - a) // BLOCKS) for a, b in (queries, keys))
    tile = Tile((layer, head), found[None].float().cpu().numpy(), tall, wide, queries[0], keys[0])
    return {"tile": tile_facts(tile, model.n_heads)}, levels(tile.cells).tobytes()


def largest(model: Any, ids: Int[Tensor, "1 n"], asked: Asked) -> tuple[dict[str, Any], None]:
    """The largest weights of one head's region as [query, key, weight]; raises BadInput for a region off the text."""
    layer, head, queries, keys = _part(asked)
    found = observe(model, ids, [strongest(queries, keys, LISTED, [head])])["strongest"]
    each = (part[layer, 0, 0].tolist() for part in (found.queries, found.keys, found.weights))
    return {"pairs": [[q, k, w] for q, k, w in zip(*each, strict=True) if k >= 0]}, None


def exact_row(model: Any, ids: Int[Tensor, "1 n"], asked: Asked) -> tuple[dict[str, Any], None]:
    """The largest weights of one head {head, query} as [key, weight]; raises BadInput for a query off the text."""
    layer, head = (int(i) for i in asked["head"])
    k = min(KEPT_KEYS, ids.shape[1])
    found = observe(model, ids, [top_keys(k, [int(asked["query"])])])["top_keys"]
    keys, weights = (part[layer, 0, head, 0].tolist() for part in (found.indices, found.values))
    return {"keys": [[key, w] for key, w in zip(keys, weights, strict=True) if w > 0]}, None


def _part(asked: Asked) -> tuple[int, int, tuple[int, int], tuple[int, int]]:
    layer, head = (int(i) for i in asked["head"])
    queries, keys = ((int(a), int(b)) for a, b in (asked["queries"], asked["keys"]))
    return layer, head, queries, keys
