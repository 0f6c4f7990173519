"""What is found of planted circuits: precision and recall on random ones, and against the loudness of decoys.

`python tests/benchmarks/planted_truth.py [models]` keeps figures as it goes: mean precision / recall over models and
corruptions. Both columns by one threshold, fixed beforehand (2 % of the gap): patching against the heads that a
corruption shows, ablation against all heads that a task needs, edges against the joins of the key.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parent)]

import measure
from planted_draws import ACCURATE, generated, worst_accuracy
from workbench_analyses.trace_circuit import trace

import workbench as wb
from workbench.reference_models.planted.ioi_circuit import build_circuit
from workbench.reference_models.planted.ioi_key import TASK_ROLES, edges, needed, shown
from workbench.reference_models.planted.ioi_knobs import Knobs
from workbench.tasks.circuit_prompts import circuit_tasks

RESULTS = Path(__file__).parent / "results" / "planted_truth.json"
MODELS = 20
NORMS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4)
SEEDS = (0, 1)
COLUMNS = ("patching", "edges", "ablation", "union")
OPTIONS = {"samples": 24, "explore": 16, "quality": "none"}


def scored(found: Iterable[Any], truth: Iterable[Any]) -> dict[str, Any]:
    """Precision, recall, and what is wrong."""
    found, truth = set(found), set(truth)
    right = len(found & truth)
    return {
        "precision": right / len(found) if found else 1.0, "recall": right / len(truth) if truth else 1.0,
        "extra": sorted(map(str, found - truth)), "missed": sorted(map(str, truth - found)),
    }  # fmt: skip


def judged(circuit: Any, model: Any, task: str, corruption: str) -> dict[str, Any]:
    """One trace against its key. A mover that a backup replaces is not needed by itself."""
    roles, traced = circuit.roles, trace(model, task=task, corruption=corruption, **OPTIONS).circuit
    repaired = set(roles["name-mover"]) if circuit.knobs.backup and task == "ioi" else set()
    spared = needed(roles, task) - (repaired - set(traced.needed))
    return {
        "task": task, "corruption": corruption,
        "patching": scored(traced.carrying, shown(roles, task, corruption)),
        "edges": scored((e.edge for e in traced.edges), edges(roles, task, corruption)),
        "ablation": scored(traced.needed, spared), "union": scored(traced.nodes, needed(roles, task)),
    }  # fmt: skip


def cases() -> list[tuple[str, str]]:
    """Tasks with their corruptions."""
    return [(task, c) for task in TASK_ROLES for c in circuit_tasks()[task].corruptions]


def main(models: int = MODELS) -> None:
    """Random models first, then louder and louder decoys in models that are otherwise the same."""
    held: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    held = {"options": OPTIONS, "models": held.get("models", {}), "norms": held.get("norms", {})}
    for i in range(models):
        if str(i) not in held["models"]:
            started = time.perf_counter()
            circuit, model = generated(i)
            found = [judged(circuit, model, *case) for case in cases()]
            held["models"][str(i)] = {"knobs": dataclasses.asdict(circuit.knobs), "cases": found}
            _write(held, f"model {i}", time.perf_counter() - started)
    for seed in SEEDS:
        for norm in NORMS:
            if f"{seed} {norm}" not in held["norms"]:
                started = time.perf_counter()
                circuit = build_circuit(Knobs(heads=16, layers=4, decoy_norm=norm, seed=seed))
                model = wb.load(circuit.bridge())
                accuracy = worst_accuracy(model)
                found = [judged(circuit, model, *case) for case in cases()] if accuracy >= ACCURATE / 2 else []
                held["norms"][f"{seed} {norm}"] = {"accuracy": accuracy, "cases": found}
                _write(held, f"seed {seed}, norm {norm}", time.perf_counter() - started)


def figures(held: dict[str, Any]) -> list[dict[str, Any]]:
    """Both parts: random models together, then by loudness of the decoys."""
    several = f"{len(held['models'])} random models"
    rows = [(several, "≥ .98", [case for one in held["models"].values() for case in one["cases"]])]
    for norm in NORMS:
        ones = [held["norms"][f"{seed} {norm}"] for seed in SEEDS if f"{seed} {norm}" in held["norms"]]
        if ones:
            accuracy = min(one["accuracy"] for one in ones)
            rows.append((f"decoys {norm:g}", f"{accuracy:.2f}", [case for one in ones for case in one["cases"]]))
    out = [
        {"models": name, "accuracy, worse task": accuracy, "traces": len(found), **_means(found)}
        for name, accuracy, found in rows
    ]
    whole = len(held["models"]) == MODELS and len(held["norms"]) == len(NORMS) * len(SEEDS)
    return [{"complete": whole}, *out]


def _means(found: list[dict[str, Any]]) -> dict[str, str | None]:
    """Mean precision / recall of each column, None without a trace."""
    return {
        column: " / ".join(f"{sum(c[column][what] for c in found) / len(found):.2f}" for what in ("precision", "recall"))
        if found else None
        for column in COLUMNS
    }  # fmt: skip


def _write(held: dict[str, Any], what: str, seconds: float) -> None:
    measure.keep("planted_truth", figures(held), measure.load(), held)
    print(f"{what}: {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
