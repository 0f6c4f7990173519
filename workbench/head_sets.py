"""Heads and ordered lists of heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from workbench.errors import BadInput


class Head(NamedTuple):
    """One attention head; prints as L2H3."""

    layer: int
    head: int

    def __str__(self) -> str:
        """The head as people write it."""
        return f"L{self.layer}H{self.head}"


@dataclass(frozen=True)
class HeadSet:
    """Heads in an order, each once; iterates as (layer, head).

    ambiguous: how many heads tie with the last one and were left out (not part of equality).
    """

    heads: tuple[Head, ...] = ()
    ambiguous: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        """Take any (layer, head) pairs."""
        heads = tuple(Head(int(layer), int(head)) for layer, head in self.heads)
        if len(set(heads)) < len(heads):
            raise BadInput(f"a head stands twice in the list {' '.join(map(str, heads))}")
        object.__setattr__(self, "heads", heads)

    def __iter__(self) -> Iterator[Head]:
        """The heads in order."""
        return iter(self.heads)

    def __len__(self) -> int:
        """How many heads there are."""
        return len(self.heads)

    def __contains__(self, head: object) -> bool:
        """Whether a (layer, head) pair is listed."""
        return head in self.heads

    def __str__(self) -> str:
        """The heads as people write them."""
        return " ".join(map(str, self.heads))

    def to_json(self) -> list[list[int]]:
        """`[[layer, head], …]`."""
        return [[layer, head] for layer, head in self.heads]
