"""Parts of the honest table: a row for each means and strength, comparisons at equal recall, random heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from workbench.tasks.chair import Chair
from workbench_analyses.visual.matched import Compared


@dataclass(frozen=True)
class Row:
    """One means at one strength on one kind of reported pictures. accuracy, yes_ratio: of POPE, NaN where not asked."""

    means: str
    strength: float
    kind: str
    trivial: bool
    chair: Chair
    accuracy: float = float("nan")
    yes_ratio: float = float("nan")

    def flat(self) -> dict[str, Any]:
        """Its numbers by name."""
        own = {"means": self.means, "strength": self.strength, "kind": self.kind, "trivial": self.trivial}
        return {**own, **self.chair.summary(), "pope_accuracy": self.accuracy, "pope_yes_ratio": self.yes_ratio}


@dataclass(frozen=True)
class Controlled:
    """A method at one strength beside random heads: invented and recall, its own and those of each draw.

    chosen: whether the choosing pictures chose the strength; the middle of the grid stands where they chose none.
    """

    means: str
    strength: float
    kind: str
    control: str
    own: tuple[float, float]
    drawn: tuple[tuple[float, float], ...]
    chosen: bool = True

    @property
    def mean(self) -> tuple[float, float]:
        """Of the draws."""
        invented, recall = np.mean(self.drawn, axis=0)
        return float(invented), float(recall)


@dataclass(frozen=True, eq=False)
class ModelTable:
    """All of one model. layers: those that each method edits. left_out: methods that it cannot be asked, and why.

    measures: of methods that go by causal contrast, what that was taken of.
    """

    name: str
    rows: list[Row]
    compared: Mapping[str, list[Compared]]
    controlled: list[Controlled] = field(default_factory=list)
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of pictures."""
        return tuple(self.compared)

    def better(self, kind: str) -> set[tuple[str, float]]:
        """Methods, and the loss of recall at which each is better than the plain model and all trivial means."""
        return {(c.method, c.drop) for c in self.compared[kind] if c.better}

    def beside(self, kind: str) -> set[tuple[str, float]]:
        """Head-specific methods that invent less than the one that does the same to all heads."""
        return {(c.method, c.drop) for c in self.compared[kind] if c.beats_uniform}

    def summary(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "model": self.name,
            "rows": [r.flat() for r in self.rows],
            "compared": {k: [{**asdict(c), "better": c.better} for c in held] for k, held in self.compared.items()},
            "controls": [asdict(c) for c in self.controlled],
            "layers": {k: list(v) for k, v in self.layers.items()},
            "left_out": dict(self.left_out),
            "measures": dict(self.measures),
        }
