"""Parts of edits: some heads, some batch rows, some of the queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench_kernels.types import HeadEdits, RowPatterns

PER_HEAD = ("uniform", "window", "class_gain", "least_mass", "freed", "bias", "boost", "key_class")
"""Fields that shape a head's pattern; their axes are batch, head, …"""


def select_heads(edits: HeadEdits, heads: slice | list[int]) -> HeadEdits:
    """The edits of the pattern of some heads."""
    cut: dict[str, Any] = {
        f: x if x.shape[1] == 1 else x[:, heads] for f in PER_HEAD if (x := getattr(edits, f)) is not None
    }
    rows = edits.rows
    rows = None if rows is None else replace(rows, heads=rows.heads[:, heads])
    return HeadEdits(**cut, sink=edits.sink, queries=edits.queries, rows=rows)


def select_rows(edits: HeadEdits, batch: Int[Tensor, " n"]) -> HeadEdits:
    """The edits of the pattern in some batch rows."""

    def cut(x: Tensor) -> Tensor:
        return x if x.shape[0] == 1 else x[batch]

    found: dict[str, Any] = {f: cut(x) for f in (*PER_HEAD, "queries") if (x := getattr(edits, f)) is not None}
    rows = edits.rows
    if rows is not None:
        rows = RowPatterns(cut(rows.heads), cut(rows.rows), cut(rows.keys), cut(rows.weights))
    return replace(HeadEdits(**found, sink=edits.sink), rows=rows)


def select_pairs(edits: HeadEdits, batch: Int[Tensor, " n"], heads: Int[Tensor, " n"]) -> HeadEdits:
    """The class edits of some (batch row, head) pairs, as a batch of one head each."""

    def cut(x: Tensor) -> Tensor:
        row = batch if x.shape[0] > 1 else torch.zeros_like(batch)
        return x[row, heads if x.shape[1] > 1 else torch.zeros_like(heads)][:, None]

    found: dict[str, Any] = {f: cut(x) for f in PER_HEAD if (x := getattr(edits, f)) is not None}
    return HeadEdits(**found, sink=edits.sink)


def select_queries(edits: HeadEdits, queries: slice) -> HeadEdits:
    """The edits of the pattern of consecutive queries, which then count from 0."""
    rows = edits.rows
    rows = None if rows is None else replace(rows, rows=rows.rows - queries.start)
    held = None if edits.queries is None else edits.queries[:, queries]
    if held is not None and bool(held.all()):
        held = None
    return replace(edits, rows=rows, queries=held, gain=None, replace=None, replacement=None)


def touched(edits: HeadEdits, batch: int) -> Bool[Tensor, "b h"]:
    """Heads whose pattern an edit changes."""
    flags = [x != 0 for x in (edits.uniform, edits.window) if x is not None]
    flags += [(x != neutral).any(-1) for x, neutral in _tables(edits) if x is not None]
    if edits.rows is not None:
        heads = edits.rows.heads
        flags.append(heads if heads.dim() == 2 else heads.any(-1))
    return torch.stack([f.expand(batch, -1) for f in flags]).any(0)


def _tables(edits: HeadEdits) -> list[tuple[Tensor | None, float]]:
    return [(edits.class_gain, 1.0), (edits.bias, 0.0), (edits.boost, 0.0)]


def held_range(edits: HeadEdits, n: int) -> slice:
    """From the first query in which the edits hold to the last one."""
    if edits.queries is None:
        return slice(0, n)
    at = edits.queries.any(0).nonzero().flatten()
    return slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0)
