"""Where first-order estimates go wrong: EAP and EAP-IG against exact effects as attention saturates, on planted circuits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.circuits import Place
from workbench.errors import BadInput
from workbench.models import Model, load
from workbench.patching import activation_effects, attribution_effects
from workbench.reference_models.planted.ioi_circuit import ROLES, build_circuit
from workbench.reference_models.planted.ioi_key import TASK_ROLES, shown
from workbench.reference_models.planted.ioi_knobs import Knobs
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_task, make_prompts
from workbench.views import Curves, Series
from workbench_analyses.circuits.ablated import plain_differences
from workbench_analyses.circuits.rankings import mean_effects

BETAS = (4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 24.0, 40.0)
"""At 4 the heads still look around, and the task is half done; from 12 on attention is all but hard."""
STEPS = {"EAP": 0, "EAP-IG m=5": 5, "EAP-IG m=30": 30}
EXACT = "exact"


@dataclass(frozen=True)
class Saturation:
    """One head's effect by one method in one model, as a share of the gap (1: the whole of it).

    beta: score of a match in nats, the knob of saturation. gap: corrupted less clean mean logit difference.
    """

    beta: float
    task: str
    head: Place
    role: str
    method: str
    share: float
    gap: float


def saturation(betas: Sequence[float] = BETAS, n: int = 32, seed: int = 0) -> tuple[Saturation, ...]:
    """Of every planted head that the corruption shows, by exact activation patching and its estimates.

    The models differ in beta only, with heads where `planted-ioi` has them. Effects are of noising all positions.
    """
    out = []
    places = {role: heads for role, heads in ROLES.items() if role not in ("decoy", "idle")}
    for beta in betas:
        model = load(build_circuit(Knobs(beta=beta, seed=seed), places).bridge())
        for task in TASK_ROLES:
            out += _of_task(model, beta, task, n, seed)
    return tuple(out)


def saturation_curves(rows: Sequence[Saturation], task: str, head: Place) -> Curves:
    """One head's effect by each method against beta."""
    mine = [r for r in rows if r.task == task and r.head == head]
    if not mine:
        raise BadInput(f"no row of head {head[0]}.{head[1]} in {task}: give one that the corruption shows")
    series = []
    for method in dict.fromkeys(r.method for r in mine):
        own = sorted((r.beta, r.share) for r in mine if r.method == method)
        series.append(Series(method, [b for b, _ in own], [s for _, s in own]))
    last = {s.name: s.y[-1] for s in series}
    finding = f"at beta = {series[0].x[-1]:g}: " + ", ".join(f"{name} {share:.0%}" for name, share in last.items())
    return Curves(
        series, "beta: score of a match (nats)", "share of the gap", finding, f"{task}: {mine[0].role} L{head[0]}H{head[1]}",
        "Effect of the head's corrupted output, exactly and to first order, on planted circuits whose attention saturates "
        "as beta grows.", None,
    )  # fmt: skip


def _of_task(model: Model, beta: float, task: str, n: int, seed: int) -> list[Saturation]:
    corruption = circuit_task(task).corruptions[0]
    prompts = make_prompts(task, model.tokenizer, n, seed, corruption=corruption).prompts
    swapped = [CircuitPrompt(p.corrupted, p.clean, p.answers, p.spans, p.template, p.text) for p in prompts]
    gap = float(np.mean(plain_differences(model, swapped) - plain_differences(model, prompts)))
    effects = {EXACT: mean_effects(activation_effects, model, prompts)}
    effects |= {name: mean_effects(attribution_effects, model, prompts, steps=m) for name, m in STEPS.items()}
    role_of = {head: role for role in reversed(TASK_ROLES[task]) for head in ROLES.get(role, ())}
    return [
        Saturation(beta, task, head, role_of[head], method, float(found[head]) / gap, gap)
        for head in sorted(shown(ROLES, task, corruption))
        for method, found in effects.items()
    ]
