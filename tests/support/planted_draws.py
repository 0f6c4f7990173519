"""Planted circuits at random: heads placed anywhere, decoys as loud as both tasks bear."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import workbench as wb
from workbench.reference_models.planted.ioi_circuit import build_circuit
from workbench.reference_models.planted.ioi_key import TASK_ROLES
from workbench.reference_models.planted.ioi_knobs import SHARED, Knobs
from workbench.tasks.circuit_prompts import make_prompts

ACCURATE = 0.98
"""Accuracy that both tasks must keep."""


def drawn(i: int) -> Knobs:
    """Knobs of a generated model: every one at random."""
    rng = np.random.default_rng([7, i])
    gpt2 = bool(rng.integers(2))
    early = str(rng.choice(["duplicate", "induction"]))
    shared = [s for s in SHARED if rng.integers(2) and not (s == "early" and early == "induction")]
    return Knobs(
        "gpt2" if gpt2 else "llama", layers=int(rng.integers(5, 7)), heads=16,
        kv_heads=None if gpt2 else int(rng.choice([4, 8])), beta=float(rng.uniform(12, 40)), early=early,
        movers=int(rng.integers(1, 3)) if "mover" in shared else 1, shared=tuple(shared), backup=bool(rng.integers(2)),
        decoy_norm=float(rng.uniform(0.1, 0.5)), mlps=True, seed=i,
    )  # fmt: skip


def worst_accuracy(model: Any, n: int = 100) -> float:
    """Of both tasks, over the whole vocabulary."""
    out = []
    for task in TASK_ROLES:
        rows = make_prompts(task, model.tokenizer, n).rows()
        logits = model.forward(rows.clean, rows.mask).logits[:, -1]
        out.append(float((logits.argmax(-1) == rows.answers[:, 0]).float().mean()))
    return min(out)


def generated(i: int) -> tuple[Any, Any]:
    """A random circuit and its model, whose decoys are as loud as drawn, or as loud as it bears."""
    knobs = drawn(i)
    while True:
        circuit = build_circuit(knobs)
        model = wb.load(circuit.bridge())
        if worst_accuracy(model) >= ACCURATE:
            return circuit, model
        knobs = dataclasses.replace(knobs, decoy_norm=0.8 * knobs.decoy_norm)
        assert knobs.decoy_norm >= 0.1
