"""All heads in order of what a method thinks of them, in units of heads, so that methods can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from workbench.bootstrap import settled
from workbench.circuits import Circuit, Place
from workbench.models import Model
from workbench.patching import activation_effects, attribution_effects
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows

IG_STEPS = 5
Scores = Float[np.ndarray, "layers heads"]


def rankings(
    model: Model,
    prompts: Sequence[CircuitPrompt],
    circuit: Circuit | None = None,
    free: Sequence[CircuitPrompt] | None = None,
    batch: int = 32,
    memory: int | str | None = None,
) -> dict[str, Scores]:
    """Size of each head's score by each method, on the same pairs; all positions.

    "path patching": the circuit's own ranking (left out without a circuit). "activation patching": a head's corrupted
    output in the clean run. "EAP", "EAP-IG": the same to first order, from gradients in the clean run or at IG_STEPS
    inputs; nodes, not edges. "ablation": as activation patching, with the pairs of `free`, whose corrupted prompts ask
    for neither answer (left out if None).
    """

    def size(measure: Any, pairs: Sequence[CircuitPrompt], **options: Any) -> Scores:
        return np.abs(mean_effects(measure, model, pairs, batch, **options))

    out: dict[str, Scores] = {} if circuit is None else {"path patching": np.abs(circuit.ranks())}
    out["activation patching"] = size(activation_effects, prompts, memory=memory)
    out["EAP"] = size(attribution_effects, prompts)
    out["EAP-IG"] = size(attribution_effects, prompts, steps=IG_STEPS)
    if free is not None:
        out["ablation"] = size(activation_effects, free, memory=memory)
    return out


def mean_effects(
    measure: Any, model: Model, prompts: Sequence[CircuitPrompt], batch: int = 32, **options: Any
) -> Float[np.ndarray, "layers heads"]:
    """Mean over prompts of `activation_effects` or `attribution_effects`, so many prompts at a time."""
    total: Any = 0.0
    for start in range(0, len(prompts), batch):
        rows = circuit_rows(prompts[start : start + batch]).to(model.device)
        effects = measure(model, rows.clean, rows.corrupted, rows.answers, attention_mask=rows.mask, **options)
        total = total + effects.to(torch.float64).sum(0).cpu().numpy()
    return total / len(prompts)


def in_order(scores: Scores) -> tuple[Place, ...]:
    """All heads, the largest |score| first; ties by layer and head."""
    size = settled(np.abs(scores))
    heads = [(i, j) for i in range(size.shape[0]) for j in range(size.shape[1])]
    return tuple(sorted(heads, key=lambda h: (-float(size[h]), h)))


def random_orders(heads: Sequence[Place], draws: int, seed: int) -> list[tuple[Place, ...]]:
    """All heads in random order, several times."""
    rng = np.random.default_rng(seed)
    return [tuple(heads[int(i)] for i in rng.permutation(len(heads))) for _ in range(draws)]


def orders_of(scores: Mapping[str, Scores]) -> dict[str, tuple[Place, ...]]:
    """The order of each method."""
    return {name: in_order(one) for name, one in scores.items()}
