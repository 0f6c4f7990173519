"""What every cut of a list costs and tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from workbench.command import Command
from workbench.exporters.cutting import Cutting
from workbench.heads import HeadScores, ModelIdentity
from workbench.reported import OfCommand
from workbench.views.cut_slider import CutSlider
from workbench.views.masking import wilson
from workbench_analyses.choose_cut import COMMAND, ChooseCut

ENOUGH = 0.9
"""Share of the recall with every head full that counts as kept."""


@dataclass(frozen=True, eq=False, repr=False)
class Cuts(OfCommand):
    """source: the list as given; scores: the same by key-value head. how: the window of streaming heads.

    ks: lengths of list that were asked; told: recall of each on every needle, [lists, needles].
    """

    typed: ClassVar[Command] = COMMAND
    config: ChooseCut
    model_label: str
    model: ModelIdentity
    source: HeadScores
    scores: HeadScores
    how: Cutting
    ks: tuple[int, ...]
    told: Float[np.ndarray, "lists needles"]
    cost: dict[str, float]
    path: str | None = None

    @property
    def curve(self) -> list[tuple[int, float, float, float]]:
        """(full heads, recall, low, high): 95 % Wilson intervals."""
        return [(k, float(y), *wilson(float(y), self.told.shape[1])) for k, y in zip(self.ks, self.told.mean(1))]

    @property
    def enough(self) -> int | None:
        """The fewest heads asked whose recall is nearly that of all; None where none is told with all."""
        every = self.curve[-1][1]
        return next((k for k, y, *_ in self.curve if y >= ENOUGH * every), None) if every > 0 else None

    def share(self, k: int, tokens: int | None = None) -> float:
        """Of all key-value entries at so many tokens (default: those that are served), those that a cut keeps."""
        tokens = tokens or self.config.served
        full = (k + int((~self.scores.scored).sum())) / self.scores.values.size
        return full + (1 - full) * min(1.0, self.how.window / tokens)

    @property
    def verdict(self) -> str:
        """How many heads have to stay full."""
        every, none = self.curve[-1][1], self.curve[0][1]
        if self.enough is None:
            return f"no needle is told even with all of {self.ks[-1]} key-value heads full"
        said = f"{self.enough} of {self.ks[-1]} key-value heads full keep {ENOUGH:.0%} of the recall ({every:.2f}"
        cost = f"{self.share(self.enough):.1%} of the cache at {self.config.served:,} tokens"
        return f"{said} with all, {none:.2f} with none): {cost}"

    @property
    def slider(self) -> CutSlider:
        """The head map with the cut that moves."""
        from workbench_analyses.cuts.report import slider

        return slider(self)

    def summary(self) -> dict[str, Any]:
        """Plain values."""
        curve = [
            {"full": k, "recall": y, "low": low, "high": high, "kept": self.share(k)} for k, y, low, high in self.curve
        ]
        return {
            "model": self.model_label, "verdict": self.verdict, "sink_size": self.how.sink_size,
            "recent_size": self.how.recent_size, "served": self.config.served, "needles": self.told.shape[1],
            "curve": curve, "enough": self.enough, "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.cuts.report import report

        return report(self)

    def __rich__(self) -> Any:
        """The terminal table."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("full heads", "recall (95 %)", f"kept at {self.config.served:,} tokens", box=None, pad_edge=False)
        for k, y, low, high in self.curve:
            table.add_row(f"{k} of {self.ks[-1]}", f"{y:.2f} [{low:.2f}, {high:.2f}]", f"{self.share(k):.1%}")
        lines: list[Any] = [Text(self.model_label, style="bold"), Text(self.verdict), "", table]
        if self.path:
            lines.append(Text(f"{self.path}/report.html has the slider"))
        return Group(*lines)
