"""Take heads out: zero, mean, resample or uniform ablation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench.errors import BadInput
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.reference import Reference
from workbench.interventions.scale import Gain
from workbench.interventions.sheet import Sheet
from workbench.option_values import ABLATIONS, one_of


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
        return Gain(heads=pairs, at=at, gain=0.0)
    if how == "uniform":
        return Uniform(heads=pairs, at=at)
    one_of("how", how, ABLATIONS)
    if source is None or source.how != how:
        raise BadInput(f"mask(how={how!r}) needs source=reference(model, tokens, how={how!r})")
    return Replace(heads=pairs, at=at, source=source)


@dataclass(frozen=True, kw_only=True)
class Uniform(Edit):
    """Even attention to every key that a head may see."""

    kind: ClassVar[str] = "uniform"

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        sheet.attend_evenly(row, self.heads_of(sheet))


@dataclass(frozen=True, kw_only=True)
class Replace(Edit):
    """Outputs of a reference set in the place of the heads' own."""

    kind: ClassVar[str] = "replace"
    source: Reference

    @property
    def by_column(self) -> bool:
        """Whether each column has its own."""
        return self.source.values.shape[2] > 1

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer; resampled positions count from the row's first valid token."""
        heads = self.heads_of(sheet)
        sheet.replace(row, heads, self.source.at(sheet.layer, sheet.columns - sheet.first_column(row))[heads])

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Edit:
        """Its tensors are not in the JSON."""
        raise BadInput("a replace edit's outputs are not in JSON: make it anew with mask(how=…, source=reference(…))")
