"""Pay attention to the image: scores of some keys raised by a part of their own size before the softmax."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from workbench.interventions.class_edit import ClassEdit
from workbench.interventions.columns import Given, columns, number
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def pai(heads: Iterable[tuple[int, int]], keys: Given, alpha: float, at: Phase = "both") -> Edit:
    """Scores a of `keys` become a + alpha·|a| (PAI, Liu et al. 2024, arXiv 2407.21771).

    The paper edits image tokens in the rows that produce tokens: at="decode", alpha 0.2 to 0.5. keys: columns of the
    tokens as passed; a list gives each batch row its own.
    """
    return Pai(heads=head_pairs(heads), at=at, keys=columns(keys), alpha=number("alpha", alpha))


@dataclass(frozen=True, kw_only=True)
class Pai(ClassEdit):
    """Boost of a class of keys before the softmax."""

    kind: ClassVar[str] = "pai"
    alpha: float

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        sheet.classes.add(row, self.heads_of(sheet), self.keys_of(sheet, row), boost=self.alpha)
