"""Multiply the output of heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def scale(heads: Iterable[tuple[int, int]], gain: float, at: Phase = "both") -> Edit:
    """Head outputs times `gain`; gains of one head multiply."""
    return Gain(heads=head_pairs(heads), at=at, gain=float(gain))


@dataclass(frozen=True, kw_only=True)
class Gain(Edit):
    """Outputs times a number."""

    kind: ClassVar[str] = "gain"
    gain: float

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        sheet.scale(row, self.heads_of(sheet), self.gain)
