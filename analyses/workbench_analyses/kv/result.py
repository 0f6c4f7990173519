"""The result of a simulation: points of quality and cost, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.heads import HeadScores, ModelIdentity
from workbench.policies.setting import Setting
from workbench.reported import OfCommand
from workbench_analyses.kv.measured import COSTS, QUALITY, Point
from workbench_analyses.kv_policies import COMMAND, Simulate

LEVEL = 0.05
ENOUGH = 0.9
"""Share of the full cache's recall that counts as kept."""


@dataclass(frozen=True, eq=False, repr=False)
class Simulation(OfCommand):
    """Policies at equal budgets on one model. refused: policies whose budget was too small, a line each."""

    typed = COMMAND

    config: Simulate
    model_label: str
    model: ModelIdentity
    scores: HeadScores
    setting: Setting
    points: list[Point]
    refused: tuple[str, ...]
    cost: dict[str, float]
    path: str | None = None

    @property
    def source(self) -> str:
        """Where the heads under test are from."""
        if self.config.heads is not None:
            return str(self.config.heads)
        return f"{self.scores.n} needles asked here ({self.scores.method})"

    def on_plot(self, cost: str, kind: str = "needle") -> dict[str, list[Point]]:
        """Points by policy that cost less than the full cache, in the order of cost; published constants left out.

        kind: only points that were asked there (a task of RULER).
        """
        out: dict[str, list[Point]] = {}
        for point in self.points:
            if point.exact and point.budget is not None and point.saves(cost) and kind in point.quality:
                out.setdefault(point.text, []).append(point)
        return {text: sorted(points, key=lambda p: p.mean(cost, kind)) for text, points in out.items()}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of RULER that were asked."""
        return tuple(dict.fromkeys(task for p in self.points for task in p.tasks))

    def asked(self, kind: str) -> int:
        """Cases of a kind."""
        return max((len(p.of("kl", kind)) for p in self.points), default=0)

    def full_score(self, task: str) -> float:
        """Of a task of RULER, with the full cache."""
        return next((p.mean("full_score", task) for p in self.points if task in p.quality), float("nan"))

    @property
    def evicting(self) -> list[Point]:
        """Points whose steps read all that is kept: what they cost is attention over it."""
        return [p for p in self.points if p.exact and p.saves("kept") and abs(p.mean("kept") - p.mean("read")) < 1e-9]

    @property
    def decoding(self) -> dict[str, float] | None:
        """The line through seconds of attention against entries attended to; None below 3 points."""
        import numpy as np

        if len(self.evicting) < 3:
            return None
        entries, seconds = (np.array([p.work[i] for p in self.evicting]) for i in range(2))
        slope, base = np.polyfit(entries / 1e6, seconds, 1)
        r = float(np.corrcoef(entries, seconds)[0, 1])
        return {"base_seconds": float(base), "seconds_per_million_entries": float(slope), "r_squared": r * r}

    @property
    def published(self) -> list[Point]:
        """Points with published constants that save anything."""
        costs = ("kept", "read", "prefill_share")
        return [p for p in self.points if p.budget is None and p.exact and any(p.saves(c) for c in costs)]

    @property
    def verdict(self) -> str:
        """For each policy the least share of the cache with which it still tells nearly all needles."""
        said = []
        costs = {"kept": "kept", "read": "read a step", "prefill_share": "of the prefill"}
        for cost, what in costs.items():
            if cost == "prefill_share" and not self.on_plot(cost):
                continue
            best = [
                (min(p.mean(cost) for p in points if p.mean("recall") >= ENOUGH), text)
                for text, points in self.on_plot(cost).items()
                if any(p.mean("recall") >= ENOUGH for p in points)
            ]
            if best:
                share, text = min(best)
                said.append(f"least share {what} with recall ≥ {ENOUGH:g}: {share:.2f} ({text})")
            else:
                said.append(f"no policy keeps recall ≥ {ENOUGH:g} with a share {what}")
        return "; ".join(said) + self._lists()

    def _lists(self) -> str:
        """The heads under test against random ones, over all points (Benjamini–Hochberg)."""
        from scipy.stats import false_discovery_control

        tested = [p for p in self.points if p.p is not None]
        if not tested:
            return ""
        shown = int((false_discovery_control([p.p for p in tested]) <= LEVEL).sum())
        gain = sum(p.mean("recall") - sum(p.controls) / len(p.controls) for p in tested) / len(tested)
        counts = [len(p.controls) for p in tested]
        floor = float(min(false_discovery_control([1 / (1 + n) for n in counts])))  # each point before all its lists
        if floor > LEVEL:
            most = "1 list" if max(counts) == 1 else f"{max(counts)} lists"
            more = counts.count(self.config.draws)
            least = f"; at least draws={-(-len(counts) * round(1 / LEVEL) // more) - 1} could" if more else ""
            return (
                f"; that the heads under test keep more than random ones of their layers cannot be shown with "
                f"{most} (q is at least {floor:.2g}; mean recall {gain:+.2f}{least})"
            )
        told = f"shown at {shown}" if shown else "NOT shown at any"
        return (
            f"; that the heads under test keep more than random ones of their layers is {told} of {len(tested)} points "
            f"(q ≤ {LEVEL:g}; mean recall {gain:+.2f}; {min(counts)} lists or more)"
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row a point and case."""
        out = []
        for p in self.points:
            for kind in p.quality:
                for i in range(len(p.quality[kind])):
                    where = {"policy": p.text, "budget": p.budget, "prefill": p.prefill, "kind": kind, "case": i}
                    out.append(where | {n: float(p.of(n, kind)[i]) for n in (*QUALITY, *COSTS)})
        return out

    def summary(self) -> dict[str, Any]:
        """The simulation as plain values."""
        return {
            "model": self.model_label, "verdict": self.verdict, "heads": self.source, "samples": self.config.samples,
            "tokens": self.setting.tokens, "decoding": self.decoding,
            "points": [p.summary() for p in self.points], "refused": list(self.refused),
            "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.kv.report import report

        return report(self)

    def plot(self, cost: str = "kept") -> Any:
        """Recall against a cost (kept, read or prefill_share), as Plotly figures of six policies each; the first one."""
        from workbench_analyses.kv.plots import pareto

        return pareto(self, cost)[0].plotly()

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.kv.terminal import terminal

        return terminal(self)
