"""Put a given attention pattern in the place of some rows: circuit repair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from workbench.errors import BadInput
from workbench.interventions.columns import Columns, Given, at_row, entries, number
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet

Weights = tuple[tuple[tuple[float, ...], ...], ...]
"""Per batch row (or once), per replaced row, per key."""


def set_pattern(
    heads: Iterable[tuple[int, int]],
    rows: Given,
    keys: Given,
    weights: Sequence[Any] | Tensor,
    at: Phase = "both",
) -> Edit:
    """In query rows `rows`, heads give weights[i, j] to key j of `keys` and nothing to any other.

    rows and keys are columns of the tokens as passed; a list gives each batch row its own. Negative rows count from the
    last valid token of the call that starts the text. weights: one number per key, the same in all rows; or [rows,
    keys]; or [batch, rows, keys] (also as nested lists). They need not sum to one. Keys that the model hides from a row
    get nothing.
    """
    at_rows, at_keys = entries(rows, "rows"), entries(keys, "keys")
    given = _nested(weights)
    n = max(len(at_rows), len(at_keys), len(given))
    if {len(at_rows), len(at_keys), len(given)} - {1, n}:
        raise BadInput("rows, keys and weights: give one entry for all batch rows, or one a row")
    for i in range(n):
        r, k, w = (at_row(x, i, n, "set_pattern") for x in (at_rows, at_keys, given))
        if len(w) not in (1, len(r)) or any(len(line) != len(k) for line in w):
            raise BadInput(f"weights must be [{len(r)} rows, {len(k)} keys], or one line of {len(k)} for all rows")
        if min(k) < 0 or len(set(k)) < len(k) or len(set(r)) < len(r):
            raise BadInput("set_pattern: keys count from 0, and no row or key can be named twice")
    return SetPattern(heads=head_pairs(heads), at=at, rows=at_rows, keys=at_keys, weights=given)


def _nested(weights: Any) -> Weights:
    try:
        held: Any = weights.tolist() if isinstance(weights, Tensor) or hasattr(weights, "tolist") else weights
        if isinstance(held[0], int | float):
            held = [[held]]
        elif isinstance(held[0][0], int | float):
            held = [held]
        return tuple(tuple(tuple(number("weights", x) for x in line) for line in row) for row in held)
    except (TypeError, IndexError):
        raise BadInput("weights: give numbers, [keys], [rows, keys] or [batch, rows, keys]") from None


@dataclass(frozen=True, kw_only=True)
class SetPattern(Edit):
    """Rows of the pattern replaced."""

    kind: ClassVar[str] = "set_pattern"
    rows: Columns
    keys: Columns
    weights: Weights

    @property
    def by_row(self) -> bool:
        """Whether each batch row has its own."""
        return max(len(self.rows), len(self.keys), len(self.weights)) > 1

    @property
    def by_column(self) -> bool:
        """Rows are queries."""
        return True

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        batch, heads = sheet.mask.batch, self.heads_of(sheet)
        keys = at_row(self.keys, row, batch, "keys")
        order = torch.tensor(keys).argsort().tolist()
        lines = at_row(self.weights, row, batch, "weights")
        for i, column in enumerate(at_row(self.rows, row, batch, "rows")):
            line = lines[i if len(lines) > 1 else 0]
            sheet.patterns.add(row, heads, column, tuple(keys[j] for j in order), tuple(line[j] for j in order))

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Edit:
        """From its fields as JSON has them."""
        return set_pattern(**fields)
