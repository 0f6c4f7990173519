"""Let heads see only the first tokens and the last ones, as a streaming KV cache would."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.errors import BadInput
from workbench.interventions.edit import Edit, Phase, head_pairs


def window(heads: Iterable[tuple[int, int]], sink: int = 4, recent: int = 64, at: Phase = "both") -> Edit:
    """Heads see the first `sink` valid tokens and the last `recent` ones, their own included."""
    if sink < 0 or recent < 1:
        raise BadInput(f"window(sink={sink}, recent={recent}): sink must be ≥ 0 and recent ≥ 1")
    return Edit("window", head_pairs(heads), at, sink=sink, recent=recent)
