"""Scale all heads that are not on a list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench.interventions.columns import number
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def route(
    heads: Iterable[tuple[int, int]],
    gain: float = 0.08,
    layers: Iterable[int] | None = None,
    at: Phase = "both",
) -> Edit:
    """Outputs of the heads outside the list times `gain`, in `layers` (default: all layers with attention).

    SPIN (Sarkar et al. 2025, arXiv 2505.16411) routes to the top heads of each layer by their mass on the image.
    """
    chosen = None if layers is None else tuple(sorted({int(x) for x in layers}))
    return Route(heads=head_pairs(heads), at=at, gain=number("gain", gain), only=chosen)


@dataclass(frozen=True, kw_only=True)
class Route(Edit):
    """Gain of the heads that are not listed."""

    kind: ClassVar[str] = "route"
    gain: float
    only: tuple[int, ...] | None = None

    def layers(self, model: Any) -> set[int]:
        """Those that were asked for, or all that have attention."""
        return set(model.seam.layers) if self.only is None else set(self.only)

    def heads_of(self, sheet: Sheet) -> list[int]:
        """Those that are not listed."""
        listed = set(super().heads_of(sheet))
        return [head for head in range(sheet.heads) if head not in listed]

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        sheet.scale(row, self.heads_of(sheet), self.gain)
