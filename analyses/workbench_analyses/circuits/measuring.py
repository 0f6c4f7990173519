"""How good the traced circuit is, and whether its ranking of heads is better than cheaper ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.circuits import Circuit
from workbench.models import Model
from workbench.patching.replacements import How
from workbench.progress import Report
from workbench.runs import Remember
from workbench.tasks.circuit_prompts import CircuitPrompt
from workbench_analyses.circuits.ablated import Ablated
from workbench_analyses.circuits.completeness import groups_of
from workbench_analyses.circuits.curves import performance_curves
from workbench_analyses.circuits.quality import Quality, circuit_quality
from workbench_analyses.circuits.rankings import orders_of, rankings

STEPS = 4


@dataclass(frozen=True)
class Asked:
    """prompts, free: pairs of the trace, by which methods rank heads; free as in the ablation column. judged: pairs on
    which circuits are run, none of the trace's. reference: prompts that how="mean" averages over.
    """

    model: Model
    prompts: Sequence[CircuitPrompt]
    free: Sequence[CircuitPrompt] | None
    judged: Sequence[CircuitPrompt]
    how: How
    seed: int
    batch: int
    memory: str | None
    remember: Remember
    reference: Sequence[CircuitPrompt] | None = None


def measured(asked: Asked, circuit: Circuit, report: Report) -> Quality:
    """Heads outside a set come from prompts that ask for neither answer, where the task has such: so those count too
    that do the same in both sides of a minimal pair."""
    ablated = Ablated.of(asked.model, asked.judged, asked.how, asked.reference, asked.memory, asked.remember)
    report(1, STEPS)
    quality = circuit_quality(ablated, circuit.nodes, groups_of(circuit), seed=asked.seed)
    report(2, STEPS)
    scores = rankings(asked.model, asked.prompts, circuit, asked.free, asked.batch, asked.memory)
    report(3, STEPS)
    curves = performance_curves(ablated, orders_of(scores), seed=asked.seed)
    report(STEPS, STEPS)
    return replace(quality, curves=curves)
