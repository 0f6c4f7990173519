"""ACT: take a share of the attention to sinks and give it to the other keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from workbench_kernels.types import OTHERS

from workbench.errors import BadInput
from workbench.interventions.columns import Columns, Given, at_row, columns, number, whole
from workbench.interventions.edit import Edit, Phase, head_pairs
from workbench.interventions.sheet import Sheet
from workbench.option_values import RECEIVERS, SINK_RULES, one_of
from workbench.sinks import SinkRule

A = 5.0
"""Times an even share: the paper's choice."""


def calibrate(
    heads: Iterable[tuple[int, int]],
    beta: float = 0.4,
    a: float = A,
    absolute: float | None = None,
    keys: Given | None = None,
    exempt: Iterable[int] = (0,),
    receivers: Literal["others", "all"] = "others",
    at: Phase = "both",
    rule: Literal["corrected", "paper"] = "corrected",
) -> Edit:
    """Sinks keep `beta` of their weight; the rest goes to the receivers in proportion to theirs (ACT, Yu et al. 2024,
    arXiv 2406.15765). A row without receivers is left as it is.

    keys: the sinks, as columns of the tokens as passed; a list gives each batch row its own. None: a rule finds them in
    each head, in the first forward of a text, by the attention that a key receives (the mean over the valid queries that
    see it). rule="paper": more than a/N, with N the row's valid tokens, or more than `absolute` (the authors' code: 0.1).
    a/N flags late keys, which few queries see, even in heads without a sink; so rule="corrected" asks for more than a
    times what an even head gives that key, from enough queries and from most of them (see `workbench.sinks.SinkRule`;
    nothing is a sink in a text of less than 32 tokens). Measured on the stream as edited so far, with the head's other
    edits, over the columns up to `decode_from`: those generated later are no sinks. What was found stays with the KV
    cache; a head in which nothing was found is not touched.

    exempt: tokens that are no sinks, counted from the row's first valid one (the authors spare the first sink that they
    find instead). receivers: "others" are all keys but sinks and exempt ones (the paper's words), "all" counts exempt
    ones in (the authors' code).
    """
    if keys is not None and (a != A or absolute is not None):
        raise BadInput("a= and absolute= belong to the rule that finds sinks: leave them out where keys= are given")
    if a != A and absolute is not None:
        raise BadInput("a= and absolute= are two rules: give one of them")
    one_of("rule", rule, SINK_RULES)
    one_of("receivers", receivers, RECEIVERS)
    spared = tuple(sorted({whole(e) for e in exempt}))
    if spared and spared[0] < 0:
        raise BadInput(f"exempt={spared}: counts from the first token, from 0")
    return Calibrate(
        heads=head_pairs(heads), at=at, keys=None if keys is None else columns(keys), beta=number("beta", beta, 0.0, 1.0),
        exempt=spared, receivers=receivers, a=number("a", a, 0.0),
        absolute=None if absolute is None else number("absolute", absolute, 0.0), rule=rule,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Calibrate(Edit):
    """Sinks scaled by beta, the freed mass to the receivers."""

    kind: ClassVar[str] = "calibrate"
    keys: Columns | None
    beta: float
    exempt: tuple[int, ...]
    receivers: str
    a: float = A
    absolute: float | None = None
    rule: str = "corrected"

    @property
    def by_row(self) -> bool:
        """Whether each batch row has its own sinks."""
        return self.keys is None or len(self.keys) > 1

    @property
    def finder(self) -> SinkRule | None:
        """What finds the sinks where they are not given."""
        return None if self.keys is not None else SinkRule(self.rule, self.a, self.absolute)

    def write(self, sheet: Sheet, row: int) -> None:
        """Into the sheet of one layer."""
        exempt = tuple(sheet.first_column(row) + e for e in self.exempt)
        if self.keys is not None:
            given = at_row(self.keys, row, sheet.mask.batch, "keys")
            sinks = tuple(k for k in given if k not in exempt)
            if not sinks:
                raise BadInput(f"keys={given}: all of them are exempt ({self.exempt}), none is left")
            return self._enter(sheet, row, self.heads_of(sheet), sinks, exempt)
        for head in self.heads_of(sheet):
            assert self.finder is not None
            sinks = tuple(k for k in sheet.found(row, head, self.finder) if k not in exempt)
            self._enter(sheet, row, [head], sinks, exempt)

    def _enter(self, sheet: Sheet, row: int, heads: list[int], sinks: tuple[int, ...], exempt: tuple[int, ...]) -> None:
        sheet.classes.add(row, heads, sinks, gain=self.beta, freed=OTHERS)
        if self.receivers == "others" and sinks:
            sheet.classes.spare(row, heads, exempt)

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Edit:
        """From its fields as JSON has them."""
        return calibrate(**fields)
