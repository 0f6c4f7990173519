"""The result of a trace: the circuit, how it was found, how good it is, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.circuits import NO_ROLE, Circuit, Place
from workbench.heads import HeadScores
from workbench.jsonable import jsonable
from workbench.option_values import CALM
from workbench.reported import OfCommand
from workbench_analyses.circuits.behaviour import Behaviour
from workbench_analyses.circuits.entering import Entering
from workbench_analyses.circuits.quality import Quality
from workbench_analyses.circuits.tracing import Choice, Traced
from workbench_analyses.trace_circuit import COMMAND, TraceCircuit

FAITHFUL = 0.9
"""Lower bound of faithfulness from which the first line does not complain."""


@dataclass(frozen=True, eq=False)
class Ablation:
    """Change of the logit difference with each head's output from a prompt that asks for neither answer.

    clean: the differences of the same prompts as they are; found: what is lost as a share of these.
    """

    effects: Float[np.ndarray, "n layers heads"]
    clean: Float[np.ndarray, " n"]
    found: Entering

    def heads(self, tau: float) -> tuple[Place, ...]:
        """Heads that count."""
        return tuple((int(i), int(j)) for i, j in np.argwhere(self.found.at(tau)))


@dataclass(frozen=True, eq=False, repr=False)
class Trace(OfCommand):
    """The circuit of a task in a model, with everything that it rests on.

    ablation: None where the task has no corruption that asks for neither answer. unmeasured: why the quality could not be
    measured, though it was asked for.
    """

    typed = COMMAND
    always = ("model", "task")
    aside = CALM

    config: TraceCircuit
    model_label: str
    circuit: Circuit
    behaviour: Behaviour
    stages: Sequence[Traced]
    choices: Sequence[Choice]
    ablation: Ablation | None
    quality: Quality | None
    left_out: tuple[str, ...]
    cost: dict[str, float]
    path: str | None = None
    unmeasured: str | None = None

    @property
    def verdict(self) -> str:
        """The finding in a line; what was not found comes first."""
        c, said = self.circuit, []
        if not c.carrying:
            return f"NO head of {c.n_layers * c.n_heads} is shown to carry {self.config.tau:.1%} of the gap ({c.n} prompts)"
        if self.quality is not None:
            f = self.quality.faithfulness
            how = f"alone they do {f.share:.0%} of what all heads do ({f.low:.0%} to {f.high:.0%})"
            said.append(f"NOT faithful: {how}" if f.low < FAITHFUL else how)
            said.append(self._against_random())
        if self.unmeasured is not None:
            said.append(f"quality NOT measured ({self.unmeasured})")
        idle = [h for h in c.heads if h.role == NO_ROLE]
        if idle:
            said.append(f"{len({h.head for h in idle})} of them have an effect without a role")
        stages = len({s.depth for s in c.stages})
        heads = f"{len(c.nodes)} of {c.n_layers * c.n_heads} heads in {stages} stages"
        return f"{heads}; " + "; ".join(said) if said else heads

    @property
    def error(self) -> str | None:
        """Why the quality could not be measured."""
        return self.unmeasured and f"quality: {self.unmeasured}"

    def _against_random(self) -> str:
        assert self.quality is not None
        r = self.quality.randoms
        if r.p is None:
            return "no random circuit of the same layers exists to compare with"
        many = f"{len(r.shares)} random circuits of the same layers{', all there are,' if r.enumerated else ''}"
        return f"{many} do {round(float(np.mean(r.shares)), 2) + 0.0:.0%} on average (p = {r.p:.2g})"

    @property
    def scores(self) -> HeadScores:
        """The ranking as head scores, for exporters and comparisons; heads that no stage shows have 0."""
        c = self.circuit
        return HeadScores(
            c.ranks(), f"path patching, {c.task}", {"task": c.task, "corruption": c.corruption, "n": c.n}, c.model
        )

    def effects(self) -> dict[str, Float[np.ndarray, "n *heads"]]:
        """Per prompt, in logits: `effect/STAGE`, `difference/clean`, `difference/corrupted`; `ablation` and
        `ablation/clean`, of the prompts that it was asked with."""
        out = {f"effect/{one.stage.name}": one.effects for one in self.stages}
        out |= {"difference/clean": self.behaviour.clean, "difference/corrupted": self.behaviour.corrupted}
        if self.ablation is None:
            return out
        return out | {"ablation": self.ablation.effects, "ablation/clean": self.ablation.clean}

    def page(self) -> str:
        """The report as one offline HTML page."""
        from workbench_analyses.circuits.report import report

        return report(self)

    def graph(self) -> Any:
        """The circuit as a picture for a notebook."""
        from workbench.views import CircuitGraph

        return CircuitGraph([self.circuit])

    def heads_frame(self) -> Any:
        """One row a head and stage, as a pandas table."""
        import pandas as pd

        rows = [
            {"stage": h.stage, "head": f"L{h.head[0]}H{h.head[1]}", "share": h.share, "low": h.low, "high": h.high,
             "role": h.role, "evidence": h.words()}
            for h in self.circuit.heads
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def choices_frame(self) -> Any:
        """What was looked at between the stages, the loudest of each depth first, as a pandas table."""
        import pandas as pd

        return pd.DataFrame([{**c.__dict__, "receivers": " ".join(map(str, c.receivers))} for c in self.choices])

    def summary(self) -> dict[str, Any]:
        """The trace as plain values."""
        c, b = self.circuit, self.behaviour
        heads = [
            {"layer": h.head[0], "head": h.head[1], "stage": h.stage, "role": h.role, "share": h.share, "low": h.low,
             "high": h.high, "evidence": dict(h.evidence)}
            for h in c.heads
        ]  # fmt: skip
        q = self.quality
        return {
            "model": self.model_label, "verdict": self.verdict, "task": c.task, "corruption": c.corruption,
            "samples": c.n, "accuracy": b.accuracy, "preferred": b.preferred, "clean": c.clean,
            "corrupted": c.corrupted, "stages": [s.name for s in c.stages], "heads": heads, "edges": len(c.edges),
            "needed": [list(h) for h in c.needed],
            "quality": None if q is None else jsonable(
                {"faithfulness": q.faithfulness.__dict__, "p_random": q.randoms.p,
                 "incomplete": q.incomplete.__dict__, "idle": [list(h) for h in q.idle],
                 "cpr": {x.method: x.cpr for x in q.curves}, "cmd": {x.method: x.cmd for x in q.curves}}
            ),
            "unmeasured": self.unmeasured, "cost": self.cost, "run": self.path,
        }  # fmt: skip

    def _repr_html_(self) -> str:
        """The notebook output: verdict and ranking."""
        from workbench.views.notebook import mini_html

        return mini_html(self.circuit.ranks(), "rank in the circuit", caption=f"{self.model_label}. {self.verdict}.")

    def __rich__(self) -> Any:
        """The terminal table."""
        from workbench_analyses.circuits.terminal import terminal

        return terminal(self)
