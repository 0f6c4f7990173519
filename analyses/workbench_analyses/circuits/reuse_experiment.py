"""Two circuits compared, from their files to the result."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from workbench.budget import budgeted
from workbench.circuits import Circuit
from workbench.cost import peak_memory
from workbench.errors import BadInput, ModelError, WorkbenchError
from workbench.models import Model, load
from workbench.patching.replacements import How
from workbench.progress import progress
from workbench.sizes import bytes_of
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_task, make_prompts
from workbench.unasked import named_by
from workbench_analyses.circuit_reuse import CircuitReuse
from workbench_analyses.circuits.ablated import Ablated
from workbench_analyses.circuits.result import Trace
from workbench_analyses.circuits.reuse_chance import matched_overlap, overlap_of
from workbench_analyses.circuits.reuse_resampled import ceiling, intervals
from workbench_analyses.circuits.reuse_result import ColumnReuse, Reuse
from workbench_analyses.circuits.reuse_sides import COLUMNS, Side, read_side
from workbench_analyses.circuits.reuse_stages import confusion, edge_reuse, stage_reuse
from workbench_analyses.circuits.reuse_sweep import sweep
from workbench_analyses.circuits.reuse_transfer import Transfer, transfer

Given = Trace | Circuit | str | Path
OF_PROMPTS = ("names", "folder", "misfits", "bos")
"""Options of a trace that its prompts are made with, beside the corruption."""


def run_reuse(
    config: CircuitReuse, a: Given, b: Given, models: Model | tuple[Model, Model] | None
) -> Reuse:  # fmt: skip
    """Raises BadInput and ModelError in one line."""
    start = time.perf_counter()
    sides = read_side(a), read_side(b)
    _check(*sides)
    transfers = _transfers(config, sides, models) if config.transfer else ()
    one, other = sides
    result = Reuse(
        config=config,
        a=one,
        b=other,
        columns={name: _column(config, one, other, name) for name in COLUMNS},
        matched=matched_overlap(one.in_stages(), other.in_stages(), one.shape),
        sweep=sweep(one, other, config.resamples, config.seed),
        stages=stage_reuse(one, other, config.draws, config.seed),
        roles=confusion(one.circuit, other.circuit),
        edges=edge_reuse(one.circuit, other.circuit, config.draws, config.seed),
        transfers=transfers,
        cost={"seconds": round(time.perf_counter() - start, 1), "peak_memory_mib": peak_memory()},
    )
    if config.out:
        result.write(config.out)
    return result


def _check(a: Side, b: Side) -> None:
    if a.shape != b.shape:
        shapes = " and ".join(f"{side.shape[0]} × {side.shape[1]}" for side in (a, b))
        raise BadInput(f"the circuits are of {shapes} heads: only models of one shape can be compared head by head")
    for side in (a, b):
        if not side.circuit.nodes:
            raise BadInput(f"{side.where or side.circuit.task}: the circuit has no heads, so there is nothing to share")


def _column(config: CircuitReuse, a: Side, b: Side, name: Any) -> ColumnReuse:
    one = overlap_of(a.heads(name), b.heads(name), a.shape)
    spans = intervals(a, b, name, config.resamples, config.seed)
    return ColumnReuse(one, spans, ceiling(a, b, name, config.halvings, config.seed))


def _transfers(
    config: CircuitReuse, sides: tuple[Side, Side], models: Model | tuple[Model, Model] | None
) -> tuple[Transfer, ...]:
    """Each side's circuit and the other's, on the side's prompts and in its model."""
    loaded = models if isinstance(models, tuple) else _loaded(config, sides) if models is None else (models, models)
    out, seed = [], 1 + config.seed + max(int(side.asked.get("seed", 0)) for side in sides)
    with progress() as stages:
        for model, side, other in zip(loaded, sides, sides[::-1], strict=True):
            _check_identity(model, side)
            prompts = _prompts(side, model.tokenizer, config.samples, seed)
            with budgeted(model, None, stages.note):
                ablated = Ablated.of(model, prompts, cast(How, config.ablation), memory=bytes_of(config.memory))
                out.append(transfer(ablated, side.circuit.task, side, other, config.controls, config.seed))
    return tuple(out)


def _loaded(config: CircuitReuse, sides: tuple[Side, Side]) -> tuple[Model, Model]:
    """One model for two circuits of it."""
    try:
        first = _load(config, sides[0])
        same = sides[0].circuit.model == sides[1].circuit.model
        return first, first if same else _load(config, sides[1])
    except ModelError as error:
        raise ModelError(f"{error}; transfer=false compares the circuits without running them") from None


def _load(config: CircuitReuse, side: Side) -> Model:
    """The model that the run names, if it is here; whether its own code may run is for who compares to say."""
    name, dtype = (
        str(side.asked.get(key, usual)) for key, usual in (("model", side.circuit.model.name), ("dtype", "float32"))
    )
    with named_by(side.where or f"the circuit of {side.circuit.task}"):
        return load(name, dtype, config.device, config.trust_remote_code)


def _check_identity(model: Model, side: Side) -> None:
    """Raises BadInput where the weights are not those that were traced."""
    traced = side.circuit.model
    if model.identity() != (traced.config_hash, traced.weights):
        raise BadInput(
            f"{model.name} is not the model of {side.where or side.circuit.task}: other weights or config than when it "
            f"was traced. Give the models= that were traced, or transfer=false"
        )


def _prompts(side: Side, tokenizer: Any, n: int, seed: int) -> Sequence[CircuitPrompt]:
    """Prompts like those of the trace. seed: one that neither trace used."""
    task, asked = side.circuit.task, side.asked
    known = inspect.signature(circuit_task(task).make).parameters
    held = {k: asked[k] for k in OF_PROMPTS if k in known and asked.get(k) is not None}
    try:
        return make_prompts(task, tokenizer, n, seed, corruption=side.circuit.corruption, **held).prompts
    except WorkbenchError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # a record may hold anything
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{side.where}: the run's options of prompts cannot be meant ({reason})") from None
