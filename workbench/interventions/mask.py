"""Take heads out: zero, mean, resample or uniform ablation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from workbench.errors import BadInput
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.reference import Reference

ABLATIONS = ("zero", "mean", "resample", "uniform")


def mask(
    heads: Iterable[tuple[int, int]],
    how: Literal["zero", "mean", "resample", "uniform"] = "zero",
    at: Phase = "both",
    source: Reference | None = None,
) -> Edit:
    """Ablate heads: output zero, output of a reference set (mean or resampled), or even attention.

    mean and resample need `source`, made by `reference(model, tokens)`.
    """
    pairs = head_pairs(heads)
    if how == "zero":
        return Edit("gain", pairs, at, gain=0.0)
    if how == "uniform":
        return Edit("uniform", pairs, at)
    if how not in ABLATIONS:
        raise BadInput(f"how={how} is no ablation: use one of {', '.join(ABLATIONS)}")
    if source is None or source.how != how:
        raise BadInput(f"mask(how={how!r}) needs source=reference(model, tokens, how={how!r})")
    return Edit("replace", pairs, at, source=source)
