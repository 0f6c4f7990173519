"""The language: an edit changes some heads in some phase; an intervention is a sum of edits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from workbench.errors import BadInput

Phase = Literal["prefill", "decode", "both"]
PHASES = ("prefill", "decode", "both")


@dataclass(frozen=True)
class Edit:
    """One change of some heads. kind: gain, uniform, window or replace; the other fields are its parameters."""

    kind: str
    heads: tuple[tuple[int, int], ...]
    at: Phase = "both"
    gain: float = 1.0
    sink: int = 4
    recent: int = 0
    source: Any = None  # a Reference, for replaced outputs

    def __post_init__(self) -> None:
        if self.at not in PHASES:
            raise BadInput(f"at={self.at} is not a phase: use one of {', '.join(PHASES)}")

    def __add__(self, other: Edit | Intervention) -> Intervention:
        return Intervention((self,)) + other

    def to_json(self) -> dict[str, Any]:
        """The edit as plain values."""
        fields = {"gain": ("gain",), "window": ("sink", "recent"), "uniform": (), "replace": ()}[self.kind]
        out = {"kind": self.kind, "heads": [list(h) for h in self.heads], "at": self.at}
        out |= {f: getattr(self, f) for f in fields}
        return out | ({"source": self.source.describe()} if self.source is not None else {})


@dataclass(frozen=True)
class Intervention:
    """Edits that hold together; the order of `+` does not matter."""

    edits: tuple[Edit, ...] = ()

    def __add__(self, other: Edit | Intervention) -> Intervention:
        return Intervention(self.edits + (other.edits if isinstance(other, Intervention) else (other,)))

    def to_json(self) -> list[dict[str, Any]]:
        """All edits as plain values."""
        return [e.to_json() for e in self.edits]


def head_pairs(heads: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(layer, head) pairs of any iterable of them, without repetitions."""
    return tuple(dict.fromkeys((int(layer), int(head)) for layer, head in heads))
