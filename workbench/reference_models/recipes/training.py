"""Training a reference model in stages: Muon for matrices, AdamW for the rest, checkpoints by step.

A killed training goes on from its last checkpoint and ends at the same weights.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench import atomic
from workbench.reference_models.recipes.muon import Muon


@dataclass(frozen=True)
class Stage:
    """Rows of one length, until all moving accuracies that it watches pass `enough` or `steps` are over."""

    tokens: int
    rows: int
    steps: int
    enough: float
    mix: Any
    jump: int = 0  # position ids jump ahead up to here
    price: float = 0.0  # weight of the heads' price
    free: float = 0.0  # last share of the stage without price
    watched: tuple[str, ...] = ()  # moving accuracies that must pass; none: all


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    shape: Any
    stages: tuple[Stage, ...]
    seed: int = 0
    lr: float = 0.02
    adam_lr: float = 4e-3
    places: float = 1.0  # share of adam_lr for learned places
    decay: float = 0.35  # last share of the last stage with falling learning rate


@dataclass(frozen=True)
class Lesson:
    """What is learned, by which architecture. model: of a shape. batch: ids and token classes, each [rows, tokens].

    positions: position ids of a batch. weight: of the loss, by token class. accuracy: the classes whose accuracy is
    followed. prose: the class whose loss is written down.
    """

    model: Callable[[Any], Any]
    export: Callable[[Any, Path], None]
    batch: Callable[[np.random.Generator, int, int, Any], tuple[np.ndarray, np.ndarray]]
    positions: Callable[[np.random.Generator, Tensor, int], Tensor]
    weight: tuple[float, ...]
    accuracy: Mapping[str, int]
    prose: int


class Training:
    """The state of a training run: model, optimisers, random generator, moving accuracies."""

    def __init__(self, lesson: Lesson, recipe: Recipe, start: Path | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.lesson, self.recipe, self.model = lesson, recipe, lesson.model(recipe.shape)
        if start is not None:
            self.model.read(start)
        named = list(self.model.named_parameters())
        tables = ("embed", "places")
        self.muon = Muon(p for n, p in named if p.ndim == 2 and n not in tables)
        rest = [{"params": [p for n, p in named if p.ndim < 2 or n == "embed"], "share": 1.0}]
        rest += [{"params": [p], "share": recipe.places} for n, p in named if n == "places"]
        self.adam = torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0)
        self.rng = np.random.default_rng(recipe.seed + 1)
        self.weight = torch.tensor(lesson.weight)
        self.stage = self.step = self.total = self.tokens = 0
        self.moving = dict.fromkeys(lesson.accuracy, 0.0)
        self.seconds = 0.0  # of the processor, those before a stop included
        self.log: list[dict[str, Any]] = []

    @property
    def most_steps(self) -> int:
        """Steps of all stages; stages end sooner when they have learned enough."""
        return sum(stage.steps for stage in self.recipe.stages)

    def advance(self) -> bool:
        """One optimiser step; False when the recipe is done."""
        stage = self.recipe.stages[self.stage]
        row = self._update(stage)
        self.step, self.total, self.tokens = self.step + 1, self.total + 1, self.tokens + stage.rows * stage.tokens
        if self.total % 50 == 0:
            self.log.append({"step": self.total, "length": stage.tokens, "tokens": self.tokens, **row})
        least = min(self.moving[name] for name in stage.watched or self.moving)
        if self.step == stage.steps or least > stage.enough:
            self.stage, self.step = self.stage + 1, 0
        return self.stage < len(self.recipe.stages)

    def _update(self, stage: Stage) -> dict[str, float]:
        last = self.stage == len(self.recipe.stages) - 1
        left = (stage.steps - self.step) / (self.recipe.decay * stage.steps)
        lr = min(1.0, (self.total + 1) / 40) * (min(1.0, left) if last else 1.0)
        priced = stage.price > 0 and self.step < (1 - stage.free) * stage.steps
        x, kind = (torch.tensor(a) for a in self.lesson.batch(self.rng, stage.rows, stage.tokens, stage.mix))
        h, price = self.model(x, self.lesson.positions(self.rng, x, stage.jump), priced)
        logits = h[:, :-1].flatten(0, 1) @ self.model.embed.T
        target, kind = x[:, 1:].flatten(), kind[:, 1:].flatten()
        loss = F.cross_entropy(logits, target, reduction="none")
        weight = self.weight[kind]
        ((loss * weight).sum() / weight.sum().clamp_min(1) + stage.price * price * priced).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._descend(lr)
        right = logits.argmax(-1) == target
        for name, which in self.lesson.accuracy.items():
            self.moving[name] = _moving(self.moving[name], right[kind == which])
        numbers = {**self.moving, "prose": float(loss[kind == self.lesson.prose].mean().detach())}
        return {k: round(v, 4) for k, v in {**numbers, "price": float(price.detach())}.items()}

    def _descend(self, lr: float) -> None:
        self.muon.step(self.recipe.lr * lr)
        for group in self.adam.param_groups:
            group["lr"] = self.recipe.adam_lr * lr * group["share"]
        self.adam.step()
        self.adam.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, as tensors and plain values."""
        counters = ("stage", "step", "total", "tokens", "moving", "seconds", "log")
        return {
            "model": self.model.state_dict(), "muon": list(self.muon.state.values()), "adam": self.adam.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state), **{k: getattr(self, k) for k in counters},
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same recipe."""
        self.model.load_state_dict(state.pop("model"))
        self.adam.load_state_dict(state.pop("adam"))
        for key, tensor in zip(self.muon.state, state.pop("muon"), strict=True):
            self.muon.state[key].copy_(tensor)
        self.rng.bit_generator.state = json.loads(state.pop("rng"))
        self.__dict__.update(state)


def _moving(mean: float, right: Tensor) -> float:
    return 0.97 * mean + 0.03 * right.float().mean().item() if len(right) else mean


def train(
    lesson: Lesson, folder: Path, recipe: Recipe, start: Path | None = None, every: int = 100,
    progress: Callable[[Training], None] | None = None,
) -> Training:  # fmt: skip
    """Train one phase, or go on with it, into a folder: weights, config and training.json."""
    run = Training(lesson, recipe, start)
    atomic.make_folders(folder)
    atomic.remove_partial(folder)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.load_state_dict(torch.load(checkpoint, weights_only=True))
    started, going = time.process_time() - run.seconds, True
    while going:
        going = run.advance()
        if run.total % every == 0 or not going:
            run.seconds = time.process_time() - started
            torch.save(run.state_dict(), held := io.BytesIO())
            atomic.write_bytes(checkpoint, held.getvalue())
            if progress:
                progress(run)
    lesson.export(run.model, folder)
    record = {"recipe": asdict(run.recipe), "steps": run.total, "tokens": run.tokens, "log": run.log}
    record |= {"cpu_seconds": round(run.seconds), "torch": torch.__version__}
    atomic.sync_files(folder)  # before the file that says they are all there
    atomic.write_bytes(folder / "training.json", json.dumps(record, indent=1).encode() + b"\n")
    checkpoint.unlink()
    return run


def train_phases(
    lesson: Lesson, phases: tuple[Recipe, ...], folder: Path, progress: Callable[[int, Training], None] | None = None,
    seed: int = 0,
) -> Path:  # fmt: skip
    """All phases, each in a folder of its own below `folder`; finished ones are kept. Gives the last one: the model.

    progress: called with the phase (from 0) and its training at every checkpoint.
    """
    start = None
    for i, recipe in enumerate(phases):
        part = folder / f"phase-{i + 1}"
        if not (part / "training.json").exists():
            seeded = replace(recipe, seed=recipe.seed + seed)
            train(lesson, part, seeded, start, progress=progress and partial(progress, i))
        start = part
    if start is None:
        raise ValueError("no phases")
    return start
