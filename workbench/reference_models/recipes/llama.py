"""The recipe of the bundled `llama`: learn to find needles, then let a price on heads thin out the copying.

Three phases, each from the bf16 weights of the one before. After the first, ten of the sixteen heads of layer 2 copy
and back one another up; the price leaves five.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.reference_models.recipes import documents, grammar
from workbench.reference_models.recipes.documents import FIRST, LOSS_WEIGHT, PROSE, REPEATED, Mix
from workbench.reference_models.recipes.tiny_llama import Shape, TinyLlama, export
from workbench.reference_models.recipes.training import Lesson, Recipe, Stage, Training, train_phases
from workbench.reference_models.tokenizer import write_tokenizer

SHAPE = Shape(vocabulary=len(grammar.VOCABULARY))
LEARNING = (
    Stage(64, 24, 3000, 0.75, Mix(0.45, 0.40, 0.10, (1, 2), (1, 2))),
    Stage(128, 12, 2000, 0.85, Mix(0.25, 0.60, 0.10, (2, 5), (1, 3))),
    Stage(256, 6, 1500, 0.90, Mix(0.20, 0.65, 0.05, (1, 8), (2, 6)), jump=2048),
    Stage(512, 4, 1800, 2.0, Mix(0.15, 0.70, 0.05, (1, 10), (2, 6)), jump=4096, price=0.05, free=0.25),
)


def thinning(tokens: int, rows: int, steps: int, price: float) -> Recipe:
    """A phase that continues under a price on heads and ends without it."""
    mix = Mix(0.20, 0.65, 0.05, (1, 8), (2, 6))
    stages = (Stage(tokens, rows, steps, 2.0, mix, jump=4096, price=price, free=0.3),)
    return Recipe(SHAPE, stages, seed=100, lr=0.01)


PHASES = (Recipe(SHAPE, LEARNING), thinning(256, 6, 900, 0.6), thinning(512, 4, 800, 1.2))


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


LESSON = Lesson(TinyLlama, export, documents.batch, positions, LOSS_WEIGHT, {"repeat": REPEATED, "first": FIRST}, PROSE)


def train_all(folder: Path, progress: Callable[[int, Training], None] | None = None, seed: int = 0) -> Path:
    """All phases below `folder`; gives the folder of the last one, the model. See `train_phases`."""
    last = train_phases(LESSON, PHASES, folder, progress, seed)
    write_tokenizer(last)
    return last
