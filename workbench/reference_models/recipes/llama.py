"""The recipe of the bundled `llama`: learn to find needles, then let a price on heads thin out the copying.

Three phases, each from the bf16 weights of the one before. After the first, ten of the sixteen heads of layer 2 copy
and back one another up; the price leaves five. Checkpoints are by step, so that a killed training goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.reference_models.recipes import documents, grammar
from workbench.reference_models.recipes.documents import FIRST, LOSS_WEIGHT, PROSE, REPEATED, Mix
from workbench.reference_models.recipes.muon import Muon
from workbench.reference_models.recipes.tiny_llama import Shape, TinyLlama, export
from workbench.reference_models.tokenizer import write_tokenizer


@dataclass(frozen=True)
class Stage:
    """Rows of one length, until both moving accuracies pass `enough` or `steps` are over."""

    tokens: int
    rows: int
    steps: int
    enough: float
    mix: Mix
    jump: int = 0  # position ids jump ahead up to here
    price: float = 0.0  # weight of the heads' price
    free: float = 0.0  # last share of the stage without price


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 0
    shape: Shape = Shape(vocabulary=len(grammar.VOCABULARY))
    stages: tuple[Stage, ...] = (
        Stage(64, 24, 3000, 0.75, Mix(0.45, 0.40, 0.10, (1, 2), (1, 2))),
        Stage(128, 12, 2000, 0.85, Mix(0.25, 0.60, 0.10, (2, 5), (1, 3))),
        Stage(256, 6, 1500, 0.90, Mix(0.20, 0.65, 0.05, (1, 8), (2, 6)), jump=2048),
        Stage(512, 4, 1800, 2.0, Mix(0.15, 0.70, 0.05, (1, 10), (2, 6)), jump=4096, price=0.05, free=0.25),
    )
    lr: float = 0.02
    adam_lr: float = 4e-3
    decay: float = 0.35  # last share of the last stage with falling learning rate


def thinning(tokens: int, rows: int, steps: int, price: float) -> Recipe:
    """A phase that continues under a price on heads and ends without it."""
    mix = Mix(0.20, 0.65, 0.05, (1, 8), (2, 6))
    return Recipe(seed=100, stages=(Stage(tokens, rows, steps, 2.0, mix, jump=4096, price=price, free=0.3),), lr=0.01)


PHASES = (Recipe(), thinning(256, 6, 900, 0.6), thinning(512, 4, 800, 1.2))


class Training:
    """The state of a training run: model, optimisers, random generator, moving accuracies."""

    def __init__(self, recipe: Recipe, start: Path | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.model = recipe, TinyLlama(recipe.shape)
        if start is not None:
            self.model.read(start)
        named = list(self.model.named_parameters())
        self.muon = Muon(p for n, p in named if p.ndim == 2 and n != "embed")
        rest = [p for n, p in named if p.ndim < 2 or n == "embed"]
        self.adam = torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0)
        self.rng = np.random.default_rng(recipe.seed + 1)
        self.weight = torch.tensor(LOSS_WEIGHT)
        self.stage = self.step = self.total = self.tokens = 0
        self.repeat = self.first = 0.0
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
        if self.step == stage.steps or min(self.repeat, self.first) > stage.enough:
            self.stage, self.step = self.stage + 1, 0
        return self.stage < len(self.recipe.stages)

    def _update(self, stage: Stage) -> dict[str, float]:
        last = self.stage == len(self.recipe.stages) - 1
        left = (stage.steps - self.step) / (self.recipe.decay * stage.steps)
        lr = min(1.0, (self.total + 1) / 40) * (min(1.0, left) if last else 1.0)
        priced = stage.price > 0 and self.step < (1 - stage.free) * stage.steps
        x, kind = (torch.tensor(a) for a in documents.batch(self.rng, stage.rows, stage.tokens, stage.mix))
        h, price = self.model(x, positions(self.rng, x, stage.jump), priced)
        logits = h[:, :-1].flatten(0, 1) @ self.model.embed.T
        target, kind = x[:, 1:].flatten(), kind[:, 1:].flatten()
        loss = F.cross_entropy(logits, target, reduction="none")
        weight = self.weight[kind]
        ((loss * weight).sum() / weight.sum().clamp_min(1) + stage.price * price * priced).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step(self.recipe.lr * lr)
        for group in self.adam.param_groups:
            group["lr"] = self.recipe.adam_lr * lr
        self.adam.step()
        self.adam.zero_grad()
        right = logits.argmax(-1) == target
        self.repeat = _moving(self.repeat, right[kind == REPEATED])
        self.first = _moving(self.first, right[kind == FIRST])
        numbers = {"repeat": self.repeat, "first": self.first, "prose": float(loss[kind == PROSE].mean().detach())}
        return {k: round(v, 4) for k, v in {**numbers, "price": float(price.detach())}.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, as tensors and plain values."""
        counters = ("stage", "step", "total", "tokens", "repeat", "first", "log")
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


def positions(rng: np.random.Generator, x: Tensor, limit: int) -> Tensor:
    """Position ids with up to three random jumps ahead in 60 % of the rows."""
    rows, tokens = x.shape
    out = torch.arange(tokens).repeat(rows, 1)
    for row in out:
        if limit and rng.random() < 0.6:
            for _ in range(rng.integers(1, 4)):
                room = limit - 1 - int(row[-1])
                row[rng.integers(1, tokens) :] += int(max(0, room) * rng.random() ** 1.5)
    return out


def train(
    folder: Path, recipe: Recipe, start: Path | None = None, every: int = 100,
    progress: Callable[[Training], None] | None = None,
) -> Training:  # fmt: skip
    """Train one phase, or go on with it, into a folder: weights, config and training.json."""
    run = Training(recipe, start)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.load_state_dict(torch.load(checkpoint, weights_only=True))
    started, going = time.process_time(), True
    while going:
        going = run.advance()
        if run.total % every == 0 or not going:
            torch.save(run.state_dict(), checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            if progress:
                progress(run)
    export(run.model, folder)
    record = {"recipe": asdict(run.recipe), "steps": run.total, "tokens": run.tokens, "log": run.log}
    record |= {"cpu_seconds": round(time.process_time() - started), "torch": torch.__version__}
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    checkpoint.unlink()
    return run


def train_all(folder: Path, progress: Callable[[int, Training], None] | None = None, seed: int = 0) -> Path:
    """All phases, each in a folder of its own below `folder`; finished ones are kept. Gives the last one: the model.

    progress: called with the phase (from 0) and its training at every checkpoint.
    """
    start = None
    for i, recipe in enumerate(PHASES):
        part = folder / f"phase-{i + 1}"
        if not (part / "training.json").exists():
            train(part, replace(recipe, seed=recipe.seed + seed), start, progress=progress and partial(progress, i))
        start = part
    assert start is not None
    write_tokenizer(start)
    return start
