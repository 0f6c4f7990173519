"""Let heads see only the first tokens and the last ones, as a streaming KV cache would."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from workbench.errors import BadInput
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet


def window(heads: Iterable[tuple[int, int]], sink: int = 4, recent: int = 64, at: Phase = "both") -> Edit:
    """Heads see the first `sink` valid tokens and the last `recent` ones, their own included.

    The mask of StreamingLLM (Xiao et al. 2024, arXiv 2309.17453) without its change of positions.
    """
    if sink < 0 or recent < 1:
        raise BadInput(f"window(sink={sink}, recent={recent}): sink must be ≥ 0 and recent ≥ 1")
    return Window(heads=head_pairs(heads), at=at, sink=sink, recent=recent)


@dataclass(frozen=True, kw_only=True)
class Window(Edit):
    """First and last keys only."""

    kind: ClassVar[str] = "window"
    sink: int
    recent: int

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        sheet.narrow(row, self.heads_of(sheet), self.sink, self.recent)
