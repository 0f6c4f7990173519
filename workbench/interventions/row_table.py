"""Rows of the pattern that are replaced in one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from workbench_kernels.types import RowPatterns

from workbench.errors import BadInput, EditConflict

if TYPE_CHECKING:
    from workbench.interventions.sheet import Sheet

Weights = tuple[float, ...]


class RowTable:
    """What is written into a sheet about its rows."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.entries: list[list[tuple[int, list[int], tuple[int, ...], Weights]]] = [[] for _ in range(sheet.rows)]

    def add(self, row: int, heads: list[int], column: int, columns: tuple[int, ...], weights: Weights) -> None:
        """One query row, by its column: negative ones count from the last token of the call that starts the text."""
        mask = self.sheet.mask
        if column < 0:
            if mask.q_offset:
                return  # it was in the call that began the text
            column += self.sheet.end[row]
        query = column - mask.q_offset
        if not 0 <= query < mask.queries:
            return
        if mask.padding is not None and not bool(mask.padding[row, column - mask.kv_offset]):
            raise BadInput(f"row {column} of batch row {row} is on padding")
        if columns and max(columns) > column:
            raise BadInput(f"row {column} cannot see key {max(columns)}, which comes later")
        self.sheet.classes.check(row, columns)
        keys = tuple(c - mask.kv_offset for c in columns if c >= mask.kv_offset)
        kept = weights[len(columns) - len(keys) :]  # columns are sorted: a sliding cache has dropped the first ones
        for at, held, *_ in self.entries[row]:
            if at == query and (twice := sorted(set(held) & set(heads))):
                raise EditConflict(f"{self.sheet.name(twice[0])}: two patterns for row {column}")
        self.entries[row].append((query, heads, keys, kept))

    def finish(self, device: torch.device) -> RowPatterns | None:
        """All rows at once, those of batch rows with fewer of them made up with rows that do not exist."""
        most = max(map(len, self.entries))
        if not most:
            return None
        width = max((len(keys) for row in self.entries for *_, keys, _ in row), default=0)
        shape = (self.sheet.rows, most)
        heads = torch.zeros(self.sheet.rows, self.sheet.heads, most, dtype=torch.bool)
        rows, keys = torch.full(shape, -1), torch.zeros(*shape, width, dtype=torch.long)
        weights = torch.zeros(*shape, width)
        for i, entries in enumerate(self.entries):
            for j, (query, chosen, at, given) in enumerate(entries):
                heads[i, chosen, j], rows[i, j] = True, query
                keys[i, j, : len(at)], weights[i, j, : len(at)] = torch.tensor(at).long(), torch.tensor(given)
        return RowPatterns(heads.to(device), rows.to(device), keys.to(device), weights.to(device))
