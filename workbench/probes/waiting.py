"""Responses that wait to be decoded together, with their keys and values: as many as a budget and the machine hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from workbench.budget import at_most
from workbench.probes.decoding import Branch, decode

T = TypeVar("T")


class Waiting:
    """Responses of a block. budget: bytes of keys and values that may wait."""

    def __init__(self, model: Any, stops: set[int], budget: float) -> None:
        self.model, self.stops, self.budget = model, stops, budget
        self.branches: list[Branch] = []

    def add(self, branch: Branch) -> None:
        """One more. Where the budget does not hold it beside the others, those are decoded first."""
        if self.branches and (len(self.branches) + 1) * max(b.size for b in (*self.branches, branch)) > self.budget:
            self.decode()
        self.branches.append(branch)

    def decode(self) -> None:
        """Finish all that wait."""
        decode(self.model, self.branches, self.stops)
        self.branches = []

    def beside(self, work: Callable[[], T]) -> T:
        """What one sample's work gives while others wait.

        Where torch runs out of memory they are decoded, the work begins anew, and half as many wait from then on, said
        once as FewerRows. Raises RanOut where none waits.
        """

        def some(most: int) -> T:
            if len(self.branches) >= most:
                self.decode()
            return work()

        each = int(max((b.size for b in self.branches), default=0))
        return at_most(self.model, "needles", len(self.branches) + 1, each, some)
