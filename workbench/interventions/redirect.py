"""Take weight from some keys and give it to some others; all the rest of the row stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench_kernels.types import OTHERS

from workbench.errors import BadInput
from workbench.interventions.class_edit import ClassEdit
from workbench.interventions.columns import Columns, Given, at_row, columns, number
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def redirect(heads: Iterable[tuple[int, int]], keys: Given, to: Given, gain: float = 0.6, at: Phase = "both") -> Edit:
    """Weights on `keys` times `gain`; what they lose goes to the keys `to`, in proportion to their weights.

    VAR (Kang et al. 2025, arXiv 2503.03321) moves weight so from visual sinks to the other parts of the picture, with
    gain 0.6. A row that gives nothing to `to` is left as it is. keys and to: columns of the tokens as passed; a list
    gives each batch row its own. Raises BadInput where they share a column.
    """
    sources, targets = columns(keys), columns(to, "to")
    n = max(len(sources), len(targets))
    if {len(sources), len(targets)} - {1, n}:
        raise BadInput("keys and to: give one entry for all batch rows, or one a row")
    if any(set(at_row(sources, i, n, "keys")) & set(at_row(targets, i, n, "to")) for i in range(n)):
        raise BadInput("redirect: a column is both in keys= and in to=")
    return Redirect(heads=head_pairs(heads), at=at, keys=sources, to=targets, gain=number("gain", gain, 0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Redirect(ClassEdit):
    """A class of keys scaled down, the freed mass to given ones."""

    kind: ClassVar[str] = "redirect"
    to: Columns
    gain: float

    @property
    def by_row(self) -> bool:
        """Whether each batch row has its own keys."""
        return max(len(self.keys), len(self.to)) > 1

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer; receivers are class 0, so all other columns are spared."""
        heads, to = self.heads_of(sheet), at_row(self.to, row, sheet.mask.batch, "to")
        sheet.classes.check(row, to)
        sheet.classes.add(row, heads, self.keys_of(sheet, row), gain=self.gain, freed=OTHERS)
        spared = set(range(sheet.first_column(row), sheet.end_column(row))).difference(to)
        sheet.classes.spare(row, heads, sorted(spared), later=True)

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Edit:
        """From its fields as JSON has them."""
        return redirect(**fields)
