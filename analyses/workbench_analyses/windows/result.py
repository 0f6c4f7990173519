"""The result of a fit: windows by tolerance, what they cost, and how the list's own cut does at as many entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from workbench.bootstrap import percentile_interval
from workbench.command import Command
from workbench.heads import HeadScores, ModelIdentity
from workbench.policies.setting import Setting
from workbench.reported import OfCommand
from workbench.smallest_windows import as_scores
from workbench_analyses.fit_windows import COMMAND, FitWindows
from workbench_analyses.windows.checked import Checked
from workbench_analyses.windows.rules import FITTED, share

DRAWS = 1000


@dataclass(frozen=True, eq=False, repr=False)
class FittedWindows(OfCommand):
    """Windows of a model's key-value heads.

    windows: the grid, in tokens; errors: median of each query head by kind of rows, [layers, heads, windows]. assigned:
    windows by tolerance. listed: the list that they are compared with. refused: comparisons that could not be made.
    """

    typed: ClassVar[Command] = COMMAND
    config: FitWindows
    model_label: str
    model: ModelIdentity
    windows: tuple[int, ...]
    errors: Mapping[str, Float[np.ndarray, "layers heads windows"]]
    assigned: Mapping[float, Int[np.ndarray, "layers kv"]]
    listed: HeadScores
    setting: Setting
    checks: list[Checked]
    refused: tuple[str, ...]
    cost: dict[str, float]
    path: str | None = None

    @property
    def found(self) -> Int[np.ndarray, "layers kv"]:
        """Windows at the tolerance that was asked for, in tokens; `context` where a head needs everything."""
        return self.assigned[self.config.tolerance]

    @property
    def scores(self) -> HeadScores:
        """The windows as scores, which `export(…, "head-windows", …)` takes."""
        own = self.config
        told = {"rows": list(own.at), "dtype": own.dtype, "checked": self.validation}
        return as_scores(self.found, self.windows, own.context, own.tolerance, own.sink, self.model, **told)

    @property
    def validation(self) -> dict[str, Any]:
        """The end-to-end check at the tolerance that was asked for, for exported files."""
        said = [c.summary() for c in self.checks if c.tolerance == self.config.tolerance]
        return {c["rule"]: {k: c[k] for k in ("kept", "recall", "kl", "agree", "p")} for c in said}

    def share(self, tolerance: float) -> float:
        """Of all entries of a whole context, those that the windows of a tolerance hold."""
        return share(self.assigned[tolerance], self.config.sink, self.config.context, self.config.context)

    def check(self, name: str, tolerance: float | None = None) -> Checked | None:
        """What a rule gave at a tolerance; None where it was refused."""
        at = self.config.tolerance if tolerance is None else tolerance
        return next((c for c in self.checks if (c.name, c.tolerance) == (name, at)), None)

    def gain(self, other: Checked) -> tuple[float, float, float]:
        """KL of another rule minus that of the windows at its tolerance, needle by needle: mean and 95 % interval."""
        own = self.check(FITTED, other.tolerance)
        assert own is not None
        change = other.point.of("kl") - own.point.of("kl")
        low, high = percentile_interval(change[:, None], None, 0.95, DRAWS, self.config.seed)
        return float(change.mean()), float(low[0]), float(high[0])

    @property
    def verdict(self) -> str:
        """What the windows keep and cost, and whether the list's cut does better at as many entries."""
        own = self.check(FITTED)
        assert own is not None
        said = [
            f"windows within {self.config.tolerance:g} keep {own.kept:.2f} of the cache: recall "
            f"{own.point.mean('recall'):.2f}, KL {own.point.mean('kl'):.3g}"
        ]
        for other in self.checks:
            if other.tolerance == self.config.tolerance and other is not own:
                mean, low, high = self.gain(other)
                beats = "not told apart" if low <= 0 <= high else "worse" if low > 0 else "BETTER"
                said.append(
                    f"{other.name}: recall {other.point.mean('recall'):.2f}, KL {other.point.mean('kl'):.3g} "
                    f"({beats}, {mean:+.3g} [{low:+.3g}, {high:+.3g}])"
                )
        if own.p is not None:
            kl = np.mean(own.of_deals("kl"))
            said.append(f"the same windows at other heads of their layers: KL {kl:.3g} (p {own.p:.2g})")
        return "; ".join(said)

    def summary(self) -> dict[str, Any]:
        """The fit as plain values."""
        counts = {w: int((self.found == w).sum()) for w in (*self.windows, self.config.context)}
        return {
            "model": self.model_label, "verdict": self.verdict, "tolerance": self.config.tolerance,
            "context": self.config.context, "windows": self.found.tolist(), "heads_by_window": counts,
            "validation": self.validation, "checks": [c.summary() for c in self.checks], "refused": list(self.refused),
            "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.windows.report import report

        return report(self)

    def plot(self) -> Any:
        """KL against entries kept, as a Plotly figure."""
        from workbench_analyses.windows.report import curves

        return curves(self, "kl").plotly()

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.windows.terminal import terminal

        return terminal(self)
