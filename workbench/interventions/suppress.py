"""Take attention away from some keys where a row gives them much; nobody gets it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from workbench_kernels.types import NOBODY

from workbench.interventions.class_edit import ClassEdit
from workbench.interventions.columns import Given, columns, number
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def suppress(
    heads: Iterable[tuple[int, int]],
    keys: Given,
    gain: float = 0.0,
    above: float = 0.0,
    at: Phase = "both",
    later: bool = False,
) -> Edit:
    """Weights on `keys` times `gain` in rows whose mass on them exceeds `above`; the row is not normalised.

    AD-HH (Yang et al., ICLR 2025, "Understanding and Mitigating Hallucination in Large Vision-Language Models via
    Modular Attribution and Intervention") does so to text behind the image with gain 0 and above 0.4. keys: columns of
    the tokens as passed; a list gives each batch row its own. later: every column behind the last of them, generated
    ones too, is one of them.
    """
    limits = {"gain": number("gain", gain, 0.0), "above": number("above", above, 0.0, 1.0)}
    return Suppress(heads=head_pairs(heads), at=at, keys=columns(keys), later=bool(later), **limits)


@dataclass(frozen=True, kw_only=True)
class Suppress(ClassEdit):
    """Gain on a class of keys where it has much, without normalising."""

    kind: ClassVar[str] = "suppress"
    gain: float
    above: float
    later: bool = False

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        keys = self.keys_of(sheet, row)
        keys = (*keys, *range(keys[-1] + 1, sheet.end_column(row))) if self.later else keys
        what = {"gain": self.gain, "least": self.above, "freed": NOBODY, "later": self.later}
        sheet.classes.add(row, self.heads_of(sheet), keys, **what)
