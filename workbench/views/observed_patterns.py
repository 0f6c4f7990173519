"""From what `wb.observe` found to a pattern view: which probes it takes, and how their numbers become tiles and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.views.pattern_tiles import Tile
from workbench.views.pattern_view import ExactRows, PatternView

OVERVIEW, FINE, ROWS, RECEIVERS = "overview", "fine", "rows", "receivers"
FINE_HEADS = 16
"""Heads that get finer blocks by default; with both channels they are half of a page of 1,024 heads."""
KEPT_KEYS = 64
"""Weights of an exact row."""


def pattern_probes(rows: Sequence[int] = (-1,), n: int = 32, fine: int = 256, k: int = KEPT_KEYS) -> list[Any]:
    """The probes that `long_patterns` reads: n × n blocks of every head, fine × fine blocks, k largest weights of rows.

    rows: columns of the tokens, negative from the last one; give the same to `long_patterns`. fine=0 leaves the finer
    blocks out (they take 8 · fine² bytes a head while the model runs).
    """
    from workbench import probes

    found = [probes.thumbnail(n, OVERVIEW), probes.receivers(name=RECEIVERS)]
    found += [probes.thumbnail(fine, FINE)] if fine else []
    return [*found, probes.top_keys(k, rows, ROWS)] if rows else found


def long_patterns(
    found: Mapping[str, Any],
    tokens: Sequence[str],
    *,
    rows: Sequence[int] = (-1,),
    heads: Sequence[tuple[int, int]] | None = None,
    spans: Mapping[str, tuple[int, int]] | None = None,
    batch: int = 0,
    title: str = "Attention over the whole text",
    caption: str = "",
) -> PatternView:
    """The view of one batch row of an observation made with `pattern_probes(rows)`; tokens: one string a column.

    heads: which get finer blocks and exact rows; by default the 16 in which a key other than the first receives most
    (all, where there are no more than 32). spans: name -> (start, end) columns to mark, such as needle and question.
    Raises BadInput where the observation lacks a probe, or its rows and tokens are others than these.
    """
    missing = [name for name in (OVERVIEW, RECEIVERS, *([ROWS] if rows else [])) if name not in found]
    if missing:
        raise BadInput(f"no probe {missing[0]!r} in the observation: observe with wb.views.pattern_probes(rows)")
    pooled = _numpy(found[OVERVIEW].pooled)[:, batch]
    weights, keys = (_numpy(part)[:, batch] for part in found[RECEIVERS])
    chosen = list(heads) if heads is not None else _telling(keys, weights)
    top = () if not rows else tuple(_numpy(part)[:, batch] for part in found[ROWS])
    fine = _numpy(found[FINE].pooled)[:, batch] if FINE in found else None
    view = PatternView(
        tokens, pooled[:, :, 0], np.where(weights > 0, keys, -1), weights,
        [] if fine is None else _tiles(fine, chosen, len(tokens), pooled.shape[-1]),
        _rows(top, chosen, [r % len(tokens) for r in rows]), dict(spans or {}), title,
        caption or _caption(chosen, pooled.shape[-1], fine),
    )  # fmt: skip
    last = int(keys[np.isfinite(weights) & (weights > 0)].max(initial=0))
    if last >= len(tokens):
        raise BadInput(f"long_patterns: column {last} receives attention, but there are {len(tokens)} tokens")
    return view


def _rows(top: Sequence[np.ndarray], heads: Sequence[tuple[int, int]], positions: Sequence[int]) -> ExactRows:
    if not top:
        return ExactRows()
    if top[0].shape[2] != len(positions):
        raise BadInput(f"{top[0].shape[2]} rows were observed, {len(positions)} are named: give both the same rows")
    layer, head = np.array(heads, dtype=np.int64).reshape(-1, 2).T
    weights, keys = (part[layer, head] for part in top)
    known = np.isfinite(weights) & (weights > 0)
    return ExactRows(positions, heads, np.where(known, keys, -1), np.where(known, weights, 0.0))


def _tiles(pooled: np.ndarray, heads: Sequence[tuple[int, int]], length: int, coarse: int) -> list[Tile]:
    """Finer blocks of the chosen heads, without those behind the end of the text; none where they are no finer."""
    size = -(-length // pooled.shape[-1])
    n = -(-length // size)
    if size >= -(-length // coarse):
        return []
    return [Tile(h, pooled[h][:, :n, :n], size, size) for h in heads]


def _telling(
    keys: Float[np.ndarray, "layers heads k"], weights: Float[np.ndarray, "layers heads k"]
) -> list[tuple[int, int]]:
    """Heads whose most received key, the first one aside, receives most."""
    best = np.where((keys > 0) & np.isfinite(weights), weights, -1.0).max(-1)
    order = np.argsort(-best, axis=None, kind="stable")
    kept = order if order.size <= 2 * FINE_HEADS else order[:FINE_HEADS]
    return [(int(i // best.shape[1]), int(i % best.shape[1])) for i in kept]


def _caption(heads: Sequence[tuple[int, int]], n: int, fine: np.ndarray | None) -> str:
    finer = "" if fine is None else f" {len(heads)} heads in blocks of 1/{fine.shape[-1]}"
    return (
        f"Every head in blocks of 1/{n} of the text,{finer} and with exact rows. A cell is the mean over its queries of the "
        "attention on its keys, or the largest weight in it; colours are logarithmic, cells are stored within 12 %. Ticks "
        "above the map: the keys that receive most (mean over the queries that see them), at their exact places."
    )


def _numpy(x: Any) -> np.ndarray:
    return x.detach().float().cpu().numpy() if x.is_floating_point() else x.detach().cpu().numpy()
