"""Add a number to the scores of some keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from workbench.interventions.class_edit import ClassEdit
from workbench.interventions.columns import Given, columns, number
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def bias(heads: Iterable[tuple[int, int]], keys: Given, value: float, at: Phase = "both") -> Edit:
    """Scores of `keys` plus `value` before the softmax (scaled and soft-capped scores, as the softmax sees them).

    keys: columns of the tokens as passed; a list gives each batch row its own.
    """
    return Bias(heads=head_pairs(heads), at=at, keys=columns(keys), value=number("value", value))


@dataclass(frozen=True, kw_only=True)
class Bias(ClassEdit):
    """A number added to the scores of a class of keys."""

    kind: ClassVar[str] = "bias"
    value: float

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        sheet.classes.add(row, self.heads_of(sheet), self.keys_of(sheet, row), bias=self.value)
