"""The language: an edit changes some heads in some phase; an intervention is a sum of edits.

A new kind of edit is a new file: a frozen dataclass with a `kind`, its parameters and `write`, which enters it into the
sheet of one layer. Nothing else knows the kinds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from jaxtyping import Bool
from torch import Tensor

from workbench.errors import BadInput, did_you_mean
from workbench.looking import Seen

if TYPE_CHECKING:
    from workbench.interventions.sheet import Sheet

Phase = Literal["prefill", "decode", "both"]
PHASES = ("prefill", "decode", "both")
Heads = tuple[tuple[int, int], ...]


class Rule(Protocol):
    """Finds keys in some heads. Hashable: what one rule finds in a head is found once."""

    def __call__(self, seen: Seen) -> Bool[Tensor, "b h k"]:
        """Flags of the text's keys, head by head."""
        ...


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One change of some heads."""

    kinds: ClassVar[dict[str, type[Edit]]] = {}
    kind: ClassVar[str] = ""

    heads: Heads
    at: Phase = "both"

    def __init_subclass__(cls) -> None:
        """Every kind is known by its name, for `from_json`."""
        Edit.kinds[cls.kind] = cls

    def __post_init__(self) -> None:
        if self.at not in PHASES:
            raise BadInput(f"at={self.at} is not a phase: use one of {', '.join(PHASES)}")

    def __add__(self, other: Edit | Intervention) -> Intervention:
        return Intervention((self,)) + other

    def write(self, sheet: Sheet, row: int) -> None:
        """Enter the edit into the sheet of one layer, for one batch row of it."""
        raise NotImplementedError

    def heads_of(self, sheet: Sheet) -> list[int]:
        """The heads that it changes in the sheet's layer."""
        return [head for layer, head in self.heads if layer == sheet.layer]

    def layers(self, model: Any) -> set[int]:
        """The layers that it changes."""
        return {layer for layer, _ in self.heads}

    @property
    def by_row(self) -> bool:
        """Whether it says something else of each batch row."""
        return False

    @property
    def by_column(self) -> bool:
        """Whether it says something else of each query, so that it is written anew for new ones."""
        return False

    @property
    def finder(self) -> Rule | None:
        """What finds its keys inside the forward; `write` then reads them with `sheet.found`."""
        return None

    def to_json(self) -> dict[str, Any]:
        """The edit as plain values."""
        fields = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"kind": self.kind, **fields}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Edit:
        """What `to_json` gave. Raises BadInput on anything else."""
        kind = record.get("kind")
        cls = Edit.kinds.get(str(kind))
        if cls is None:
            raise BadInput(f"{kind!r} is no kind of edit.{did_you_mean(str(kind), Edit.kinds)}")
        given = {k: v for k, v in record.items() if k != "kind"}
        if set(given) - (known := {f.name for f in dataclasses.fields(cls)}) or "heads" not in given:
            raise BadInput(f"a {kind} edit has the fields {', '.join(sorted(known))}, not {', '.join(sorted(given))}")
        return cls.of_json({**given, "heads": head_pairs(given["heads"])})

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Edit:
        """The edit of one kind, from its fields as JSON has them: lists become tuples."""
        return cls(**{name: _tuples(value) for name, value in fields.items()})


@dataclass(frozen=True)
class Intervention:
    """Edits that hold together; the order of `+` does not matter."""

    edits: tuple[Edit, ...] = ()

    def __add__(self, other: Edit | Intervention) -> Intervention:
        return Intervention(self.edits + (other.edits if isinstance(other, Intervention) else (other,)))

    def to_json(self) -> list[dict[str, Any]]:
        """All edits as plain values."""
        return [e.to_json() for e in self.edits]

    @staticmethod
    def from_json(records: Iterable[Mapping[str, Any]]) -> Intervention:
        """What `to_json` gave."""
        return Intervention(tuple(Edit.from_json(r) for r in records))


def edits_in(active: Any) -> tuple[Edit, ...]:
    """All edits of what users give: an edit, a sum, or a list of those with one per batch row."""
    if isinstance(active, list):
        return tuple(edit for item in active for edit in edits_in(item))
    return active.edits if isinstance(active, Intervention) else (active,)


def head_pairs(heads: Iterable[Iterable[int]]) -> Heads:
    """(layer, head) pairs of any iterable of them, without repetitions."""
    return tuple(dict.fromkeys((int(layer), int(head)) for layer, head in heads))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    for unpack in ("describe", "tolist"):
        if hasattr(value, unpack):
            return getattr(value, unpack)()
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
