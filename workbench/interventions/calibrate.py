"""ACT: take a share of the attention to sinks and give it to the other keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from workbench_kernels.types import OTHERS

from workbench.errors import BadInput, Unsupported
from workbench.interventions.class_edit import ClassEdit
from workbench.interventions.columns import Given, columns, number, whole
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet

RECEIVERS = ("others", "all")


def calibrate(
    heads: Iterable[tuple[int, int]],
    beta: float = 0.4,
    a: float = 5,
    absolute: float | None = None,
    keys: Given | None = None,
    exempt: Iterable[int] = (0,),
    receivers: Literal["others", "all"] = "others",
    at: Phase = "both",
) -> Edit:
    """Sinks keep `beta` of their weight; the rest goes to the receivers in proportion to theirs (ACT, Yu et al. 2024,
    arXiv 2406.15765). A row without receivers is left as it is.

    keys: the sinks, as columns of the tokens as passed; a list gives each batch row its own. exempt: tokens that are no
    sinks, counted from the row's first valid one. receivers: "others" are all keys but sinks and exempt ones (the
    paper's words), "all" counts exempt ones in (the authors' code). a and absolute belong to the rule that finds sinks.
    """
    if keys is None:
        raise Unsupported("calibrate finds no sinks by itself yet: give their columns, keys=(…)")
    if a != 5 or absolute is not None:
        raise BadInput("a= and absolute= belong to the rule that finds sinks: leave them out where keys= are given")
    if receivers not in RECEIVERS:
        raise BadInput(f"receivers={receivers} is not known: use one of {', '.join(RECEIVERS)}")
    spared = tuple(sorted({whole(e) for e in exempt}))
    if spared and spared[0] < 0:
        raise BadInput(f"exempt={spared}: counts from the first token, from 0")
    return Calibrate(
        heads=head_pairs(heads), at=at, keys=columns(keys), beta=number("beta", beta, 0.0, 1.0), exempt=spared,
        receivers=receivers,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Calibrate(ClassEdit):
    """Sinks scaled by beta, the freed mass to the receivers."""

    kind: ClassVar[str] = "calibrate"
    beta: float
    exempt: tuple[int, ...]
    receivers: str

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        heads, first = self.heads_of(sheet), sheet.first_column(row)
        exempt = tuple(first + e for e in self.exempt)
        sinks = tuple(k for k in self.keys_of(sheet, row) if k not in exempt)
        if not sinks:
            raise BadInput(f"keys={self.keys_of(sheet, row)}: all of them are exempt ({self.exempt}), none is left")
        sheet.classes.add(row, heads, sinks, gain=self.beta, freed=OTHERS)
        if self.receivers == "others":
            sheet.classes.spare(row, heads, exempt)
