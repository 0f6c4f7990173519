"""What edits of key classes have in common: some keys, the same in all batch rows or an entry a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.interventions.columns import Columns, at_row, columns
from workbench.interventions.edit import Edit
from workbench.interventions.sheet import Sheet


@dataclass(frozen=True, kw_only=True)
class ClassEdit(Edit):
    """An edit of some keys of some heads."""

    keys: Columns

    @property
    def by_row(self) -> bool:
        """Whether each batch row has its own keys."""
        return len(self.keys) > 1

    def keys_of(self, sheet: Sheet, row: int) -> tuple[int, ...]:
        """Columns of one batch row."""
        return at_row(self.keys, row, sheet.mask.batch, "keys")

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Edit:
        """The edit of one kind, from its fields as JSON has them."""
        return super().of_json({**fields, "keys": columns(fields["keys"])})
