"""A circuit as one side of a comparison: its columns, its stages by depth and channel, and its effects prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from workbench.circuits import Circuit, Place, read_circuit
from workbench.errors import BadInput
from workbench.run_record import read_run

if TYPE_CHECKING:
    from workbench_analyses.circuits.result import Trace

Column = Literal["patching", "ablation", "union"]
COLUMNS: tuple[Column, ...] = ("patching", "ablation", "union")
EFFECTS = "effects.safetensors"
Key = tuple[int, str]
"""Depth from the logits, and channel: what stages of two tasks have in common; labels differ."""
Z = 1.96


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects prompt by prompt, in logits: of each stage and of ablation [n, layers, heads]; difference of each run [n].

    Shares of stages are of corrupted − clean, those of ablation of the clean difference that it takes away: unablated, of
    the prompts that ablation was asked with (None: those of the stages).
    """

    stages: Mapping[str, Float[np.ndarray, "n layers heads"]]
    clean: Float[np.ndarray, " n"]
    corrupted: Float[np.ndarray, " n"]
    ablation: Float[np.ndarray, "n layers heads"] | None = None
    unablated: Float[np.ndarray, " n"] | None = None

    @property
    def gaps(self) -> Float[np.ndarray, " n"]:
        """What a corrupted prompt changes."""
        return self.corrupted - self.clean

    @classmethod
    def of(cls, held: Mapping[str, np.ndarray], circuit: Circuit) -> Effects:
        """From the tensors of a trace, by name. Raises KeyError and ValueError, with the name, for what does not fit."""
        stages = {s.name: held[f"effect/{s.name}"] for s in circuit.stages}
        out = cls(
            stages, held["difference/clean"], held["difference/corrupted"], held.get("ablation"),
            held.get("ablation/clean"),
        )  # fmt: skip
        shape = (len(out.clean), circuit.n_layers, circuit.n_heads)
        for name, array in {**stages, **({} if out.ablation is None else {"ablation": out.ablation})}.items():
            if array.shape != shape:
                raise ValueError(f"{name} is {array.shape}, the circuit beside it says {shape}")
        return out


@dataclass(frozen=True, eq=False)
class Side:
    """A circuit and, where its run kept them, its effects. where: the folder it was read from. asked: options of the run."""

    circuit: Circuit
    effects: Effects | None = None
    where: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, heads of each."""
        return self.circuit.n_layers, self.circuit.n_heads

    @property
    def tau(self) -> float:
        """The threshold it was traced with."""
        return float(self.circuit.settings.get("tau", 0.02))

    def heads(self, column: Column) -> set[Place]:
        """The circuit as one column shows it."""
        c = self.circuit
        return set({"patching": c.carrying, "ablation": c.needed, "union": c.nodes}[column])

    @cached_property
    def keys(self) -> dict[str, Key]:
        """Depth and channel of each stage, by its name."""
        return {s.name: (s.depth, s.channel) for s in self.circuit.stages}

    def in_stages(self) -> set[tuple[Key, Place]]:
        """Heads with the stages that they are in."""
        return {(self.keys[h.stage], h.head) for h in self.circuit.heads}

    def sizes(self, key: Key) -> Float[np.ndarray, "layers heads"]:
        """|share| of every head in a stage, the largest over its labels. Without effects, 0 for heads that do not enter."""
        out = np.zeros(self.shape)
        for stage in (s for s in self.circuit.stages if self.keys[s.name] == key):
            if self.effects is not None and stage.name in self.effects.stages:
                share = self.effects.stages[stage.name].sum(0) / self.effects.gaps.sum()
                out = np.maximum(out, np.abs(share))
            else:
                for one in self.circuit.in_stage(stage.name):
                    out[one.head] = max(out[one.head], abs(one.share))
        return out

    def members(
        self, column: Column, weights: Float[np.ndarray, "draws n"], tau: float | None = None, errors: float = 1.0
    ) -> Bool[np.ndarray, "draws layers heads"] | None:
        """The circuit found anew from weighted prompts, many times, among the receivers of the whole run.

        A head enters a stage where |share| less 1.96 standard errors (of a ratio of sums; times `errors`) exceeds tau.
        None where the run kept no effects of this column.
        """
        held = self.effects
        if held is None or (column != "patching" and held.ablation is None):
            return None
        cut, out = self.tau if tau is None else tau, np.zeros((len(weights), *self.shape), dtype=bool)
        if column != "ablation":
            for effects in held.stages.values():
                out |= entered(effects, held.gaps, weights, cut, errors)
        if column != "patching" and held.ablation is not None:
            whole = held.clean if held.unablated is None else held.unablated
            out |= entered(held.ablation, -whole, weights, cut, errors)
        return out


def entered(
    effects: Float[np.ndarray, "n *heads"], gaps: Float[np.ndarray, " n"], weights: Float[np.ndarray, "draws n"],
    tau: float, errors: float = 1.0,
) -> Bool[np.ndarray, "draws *heads"]:  # fmt: skip
    """Whether the lower 95 % bound of |sum of effects / sum of gaps| exceeds tau (normal, delta method), for each weighting.

    What the trace asks by resampling; here in closed form, since it is asked of thousands of samples.
    """
    flat, count = effects.reshape(len(effects), -1), weights.sum(1, keepdims=True)
    total = (weights @ gaps)[:, None]
    share = (weights @ flat) / total
    across = weights @ (flat * gaps[:, None])
    squares = weights @ flat**2 - 2 * share * across + share**2 * (weights @ gaps**2)[:, None]
    error = np.sqrt(np.maximum(squares, 0) * count / (count - 1)) / np.abs(total)
    return (np.abs(share) - Z * errors * error > tau).reshape(len(weights), *effects.shape[1:])


def read_side(given: Trace | Circuit | str | Path) -> Side:
    """From a run folder, a circuit file, a trace or a circuit. Raises BadInput for what is none or does not fit."""
    if isinstance(given, Circuit):
        return Side(given, asked=given.settings)
    if not isinstance(given, str | Path):
        effects = Effects.of(given.effects(), given.circuit)
        return Side(given.circuit, effects, given.path or "", given.config.question_asked())
    circuit, path = read_circuit(given), Path(given)
    folder = path if path.is_dir() else path.parent
    asked = read_run(folder)["question"] if (folder / "run.json").exists() else circuit.settings
    if type(seed := asked.get("seed", 0)) is not int or seed < 0:
        raise BadInput(f"{folder}: the seed of the run, {str(seed)[:40]!r}, is no whole number from 0")
    return Side(circuit, _read_effects(folder / EFFECTS, circuit), str(folder), asked)


def _read_effects(file: Path, circuit: Circuit) -> Effects | None:
    """Raises BadInput where the file cannot be read or holds effects of another shape."""
    if not file.exists():
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        held = {name: np.asarray(x, dtype=np.float64) for name, x in load_file(file).items()}
        return Effects.of(held, circuit)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file}: cannot be read ({' '.join(str(error).split())}): run trace-circuit again") from None
    except KeyError as error:
        raise BadInput(f"{file}: lacks {error}: it is not of the circuit beside it; run trace-circuit again") from None
    except ValueError as error:
        raise BadInput(f"{file}: {error}: run trace-circuit again") from None
