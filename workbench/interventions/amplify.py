"""Turn attention to some keys up or down, the rest of the row giving way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from workbench_kernels.types import ALL

from workbench.interventions.class_edit import ClassEdit
from workbench.interventions.columns import Given, columns, number
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def amplify(heads: Iterable[tuple[int, int]], keys: Given, gain: float, at: Phase = "both") -> Edit:
    """Weights on `keys` times `gain` after the softmax, then the row is normalised over all keys.

    It equals a bias of log(gain) before the softmax. keys: columns of the tokens as passed; a list gives each batch row
    its own.
    """
    return Amplify(heads=head_pairs(heads), at=at, keys=columns(keys), gain=number("gain", gain, 0.0))


@dataclass(frozen=True, kw_only=True)
class Amplify(ClassEdit):
    """Gain on a class of keys, normalised over all."""

    kind: ClassVar[str] = "amplify"
    gain: float

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        sheet.classes.add(row, self.heads_of(sheet), self.keys_of(sheet, row), gain=self.gain, freed=ALL)
