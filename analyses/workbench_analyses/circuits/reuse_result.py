"""What two circuits share, with its chance level, and what that says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench import atomic
from workbench.circuits import Place
from workbench.jsonable import dumps, jsonable
from workbench.reported import Reported
from workbench.views.text import number
from workbench_analyses.circuit_reuse import CircuitReuse
from workbench_analyses.circuits.reuse_chance import Overlap
from workbench_analyses.circuits.reuse_resampled import Ceiling, Intervals
from workbench_analyses.circuits.reuse_sides import Column, Side
from workbench_analyses.circuits.reuse_stages import EdgeReuse, StageReuse
from workbench_analyses.circuits.reuse_sweep import AtThreshold
from workbench_analyses.circuits.reuse_transfer import OTHER, OWN, Transfer

LEVEL = 0.05
WORTH = 0.1
"""Share of a task below which a circuit is not said to do it, however little random circuits do."""
PRIMARY: Column = "patching"
"""The primary test, fixed beforehand: shared heads of the patching columns at the traces' own threshold, layer by layer."""


@dataclass(frozen=True)
class ColumnReuse:
    """Overlap of one column; intervals and ceiling are None where a run kept no effects prompt by prompt."""

    overlap: Overlap
    intervals: Intervals | None
    ceiling: Ceiling | None


@dataclass(frozen=True, eq=False, repr=False)
class Reuse(Reported):
    """How far two circuits are the same. columns: "patching", "ablation", "union". matched: same head in the same stage.

    roles: heads by (role in A, role in B). transfers: on A's prompts, and on B's; empty if not asked for.
    """

    config: CircuitReuse
    a: Side
    b: Side
    columns: Mapping[Column, ColumnReuse]
    matched: Overlap
    sweep: tuple[AtThreshold, ...]
    stages: tuple[StageReuse, ...]
    roles: Mapping[tuple[str, str], tuple[Place, ...]]
    edges: EdgeReuse | None
    transfers: tuple[Transfer, ...]
    cost: Mapping[str, float]

    def __repr__(self) -> str:
        """The finding in a line."""
        return f"Reuse({self.verdict})"

    @cached_property
    def names(self) -> tuple[str, str]:
        """What the circuits are called: by task, else by model, else A and B."""
        one, other = self.a.circuit, self.b.circuit
        for pair in ((one.task, other.task), (one.model.name, other.model.name)):
            if len(set(pair)) == 2:
                return pair
        return "A", "B"

    @property
    def shown(self) -> bool:
        """Whether more heads are shared than chance gives, by the primary test."""
        return self.columns[PRIMARY].overlap.p <= LEVEL

    @property
    def verdict(self) -> str:
        """The finding in a line; what is not shown comes first."""
        one = self.columns[PRIMARY].overlap
        figures = f"{one.n} of {min(one.a, one.b)} heads shared, {one.expected:.2g} by chance, p = {one.p:.2g}"
        if one.least > LEVEL:
            head = f"NOT testable: circuits of {one.a} and {one.b} heads allow no p below {one.least:.2g} ({figures})"
        elif not self.shown:
            head = (
                f"NOT shown that the circuits share more heads than chance ({figures}, least possible {one.least:.2g})"
            )
        else:
            head = f"the circuits share more heads than layer-matched random ones ({figures})"
        return "; ".join([head, *map(self._transferred, self.transfers)])

    def _transferred(self, one: Transfer) -> str:
        """What the other's circuit does of a task."""
        index = self.transfers.index(one)
        name, other = self.names[index], self.names[1 - index]
        own, theirs = one.row(OWN), one.row(OTHER)
        if own is None or theirs is None:
            return f"no transfer to {name}"
        share = f"{number(theirs.found.share, 2)} of {name}"
        p = theirs.randoms.p if theirs.randoms else None
        figures = f"its own does {number(own.found.share, 2)}" + ("" if p is None else f"; p = {p:.2g}")
        if theirs.found.low < WORTH:
            return f"{other}'s circuit is NOT shown to do {name} ({share}; {figures})"
        than = (
            "more than random circuits"
            if p is not None and p <= LEVEL
            else "NOT shown to be more than random circuits do"
        )
        return f"{other}'s circuit does {share}, {than} ({figures})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know to judge the figures."""
        one, other = self.a.circuit, self.b.circuit
        out = []
        if one.model != other.model:
            out.append("the circuits are of different models of one shape: heads are matched by their place")
        if self.a.tau != self.b.tau:
            out.append(f"traced with different thresholds, {self.a.tau:g} and {self.b.tau:g} of the gap")
        lacking = [n for n, side in zip(self.names, (self.a, self.b), strict=True) if side.effects is None]
        if lacking:
            out.append(f"no effects prompt by prompt of {' and '.join(lacking)}: no intervals, no ceiling")
        bare = [n for n, side in zip(self.names, (self.a, self.b), strict=True) if "model" not in side.asked]
        if bare and self.transfers:
            out.append(f"{' and '.join(bare)} came without a run: run on prompts made with default options, in float32")
        if one.task == other.task and one.model == other.model:
            out.append("both circuits are of one task and one model: this is agreement of traces, not reuse")
        return tuple(out)

    def summary(self) -> dict[str, Any]:
        """All figures as plain values."""
        columns = {
            name: {
                **_plain(c.overlap), "intervals": c.intervals and vars(c.intervals),
                "ceiling": c.ceiling and {**vars(c.ceiling), "reuse": c.ceiling.reuse},
            }
            for name, c in self.columns.items()
        }  # fmt: skip
        sweep = [
            {"tau": s.tau, **_plain(s.overlap), "intervals": s.intervals and vars(s.intervals)} for s in self.sweep
        ]
        stages = [{**vars(s), "name": s.name, "key": list(s.key), "overlap": _plain(s.overlap)} for s in self.stages]
        return jsonable({
            "verdict": self.verdict, "notes": self.notes,
            "a": _about(self.names[0], self.a), "b": _about(self.names[1], self.b), "columns": columns,
            "matched": _plain(self.matched), "sweep": sweep, "stages": stages,
            "roles": [{"a": x, "b": y, "heads": heads} for (x, y), heads in self.roles.items()],
            "edges": self.edges and {**vars(self.edges), "share": self.edges.share, "jaccard": self.edges.jaccard},
            "transfer": [_transfer(t) for t in self.transfers], "cost": self.cost,
        })  # fmt: skip

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.circuits.reuse_report import report

        return report(self)

    def plot(self) -> Any:
        """The overlap over thresholds, as a Plotly figure."""
        from workbench_analyses.circuits.reuse_report import sweep_curve

        return sweep_curve(self).plotly()

    def write(self, out: str | Path) -> None:
        """report.html and reuse.json into a folder."""
        folder = Path(out)
        atomic.make_folders(folder)
        atomic.write_bytes(folder / "reuse.json", dumps(self.summary(), indent=1).encode() + b"\n")
        self.report(folder / "report.html")

    def _repr_html_(self) -> str:
        """The notebook output: both circuits in one graph."""
        from workbench_analyses.circuits.reuse_report import graph

        return graph(self)._repr_html_()

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.circuits.reuse_terminal import terminal

        return terminal(self)


def _plain(one: Overlap) -> dict[str, Any]:
    return {**vars(one), "n": one.n, "jaccard": one.jaccard, "share": one.share, "expected_share": one.expected_share}


def _about(name: str, side: Side) -> dict[str, Any]:
    c = side.circuit
    return {
        "name": name, "task": c.task, "corruption": c.corruption, "model": c.model.name, "weights": c.model.weights,
        "n": c.n, "tau": side.tau, "carrying": c.carrying, "needed": c.needed, "run": side.where,
    }  # fmt: skip


def _transfer(one: Transfer) -> dict[str, Any]:
    rows = [
        {"kept": r.name, "size": r.size, "share": r.found.share, "low": r.found.low, "high": r.found.high,
         "quartiles": r.found.quartiles, "randoms": r.randoms and vars(r.randoms)}
        for r in one.rows
    ]  # fmt: skip
    return {"task": one.task, "n": one.n, "rows": rows}
