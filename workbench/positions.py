"""Positions as users give them, columns of the tokens as passed, into indices of one attention call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import BadInput
from workbench.masks import CompactMask

Rows = Sequence[int] | Sequence[Sequence[int]] | None
"""Columns, the same for every batch row, or a list of them per batch row; negative ones count from the last token."""
Spans = Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]]
"""(start, end) pairs, the same for every batch row, or a list of pairs per batch row."""


def lengths(mask: CompactMask) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    """First valid column of each batch row, and the column after its last valid one."""
    end = mask.kv_offset + mask.keys
    if mask.padding is None:
        return torch.zeros(mask.batch, dtype=torch.long), torch.full((mask.batch,), end)
    padding = mask.padding.cpu()
    first = padding.int().argmax(-1) + mask.kv_offset if mask.first is None else mask.first.cpu()
    return first, end - padding.flip(-1).int().argmax(-1)


def rows_index(rows: Rows, mask: CompactMask) -> Int[Tensor, "b r"] | None:
    """Indices of the query axis; None for all. Raises BadInput for rows outside the text, padding included."""
    if rows is None:
        return None
    given = _per_row(rows, mask, depth=1)
    first, end = lengths(mask)
    out = torch.tensor(given, dtype=torch.long)
    out = torch.where(out < 0, out + end[:, None], out)
    if bool(((out < first[:, None]) | (out >= end[:, None])).any()):
        raise BadInput(f"rows={rows}: outside the text, which has columns {first.min()} to {end.max() - 1}")
    index = out - mask.q_offset
    if bool((index < 0).any()):
        raise BadInput(f"rows={rows}: before the tokens of this call, which begin at column {mask.q_offset}")
    return index.to(mask.device)


def spans_index(spans: Spans, mask: CompactMask) -> Int[Tensor, "b s 2"]:
    """Indices of the key axis. Raises BadInput for a span on padding or outside the text."""
    given = torch.tensor(_per_row(spans, mask, depth=2), dtype=torch.long)
    if given.shape[-1] != 2 or bool((given[..., 0] >= given[..., 1]).any()):
        raise BadInput(f"spans={spans}: give (start, end) pairs with start < end")
    first, end = lengths(mask)
    if bool((given[..., 0] < first[:, None]).any() or (given[..., 1] > end[:, None]).any()):
        raise BadInput(f"spans={spans}: on padding or outside the text, columns {first.min()} to {end.max() - 1}")
    return (given - mask.kv_offset).to(mask.device)


def _per_row(given: Any, mask: CompactMask, depth: int) -> list[Any]:
    """One list per batch row; `depth` is that of one row's list."""
    probe, levels = given, 0
    while isinstance(probe, (list, tuple)) and probe:
        probe, levels = probe[0], levels + 1
    if not isinstance(probe, int) or levels not in (depth, depth + 1):
        raise BadInput(f"{given}: give integers, the same for all batch rows or a list per batch row")
    if levels == depth:
        return [list(given)] * mask.batch
    if len(given) != mask.whole:
        raise BadInput(f"{len(given)} lists of positions for {mask.whole} batch rows: give one list, or one a row")
    if len({len(row) for row in given}) > 1:
        raise BadInput("every batch row needs as many positions as the others")
    return [list(row) for row in mask.own(given)]
