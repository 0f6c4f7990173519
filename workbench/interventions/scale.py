"""Multiply the output of heads."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.interventions.edit import Edit, Phase, head_pairs


def scale(heads: Iterable[tuple[int, int]], gain: float, at: Phase = "both") -> Edit:
    """Head outputs times `gain`; gains of one head multiply."""
    return Edit("gain", head_pairs(heads), at, gain=float(gain))
