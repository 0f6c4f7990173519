"""The recipe of the bundled `gpt2`: repeats until induction forms, then IOI and Colored Objects, an example last.

Most steps are small (768 to 1,536 tokens): heads that look back form by the number of steps, not of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.reference_models.recipes import circuit_documents as documents
from workbench.reference_models.recipes.circuit_documents import Mix
from workbench.reference_models.recipes.circuit_words import VOCABULARY
from workbench.reference_models.recipes.tiny_gpt2 import Shape, TinyGpt2, export
from workbench.reference_models.recipes.training import Lesson, Recipe, Stage, Training, train_phases
from workbench.reference_models.tokenizer import build_cased_tokenizer, write_tokenizer

SHAPE = Shape(vocabulary=len(VOCABULARY))
STAGES = (
    Stage(48, 32, 2500, 0.8, Mix(0.25, 0.20, 0.25, 0.25), 128),
    Stage(64, 24, 2500, 0.95, Mix(0.12, 0.12, 0.30, 0.42, (2, 3)), 128),
    Stage(96, 16, 2500, 2.0, Mix(0.08, 0.05, 0.30, 0.55, (3, 3), 0.6), 128),
)
PHASES = (Recipe(SHAPE, STAGES),)


def positions(rng: np.random.Generator, x: Tensor, limit: int) -> Tensor:
    """Position ids that begin later in half of the rows, so that no place is special; the last one is below `limit`."""
    rows, tokens = x.shape
    late = rng.integers(0, max(1, limit - tokens + 1), rows) * (rng.random(rows) < 0.5)
    return torch.arange(tokens) + torch.tensor(late)[:, None]


LESSON = Lesson(
    TinyGpt2, export, documents.batch, positions, documents.LOSS_WEIGHT,
    {
        "repeat": documents.REPEATED, "reverse": documents.REVERSED,
        "ioi": documents.INDIRECT, "colour": documents.COLOUR,
    },
    documents.PROSE,
)  # fmt: skip


def train_all(folder: Path, progress: Callable[[int, Training], None] | None = None, seed: int = 0) -> Path:
    """All phases below `folder`; gives the folder of the last one, the model. See `train_phases`."""
    last = train_phases(LESSON, PHASES, folder, progress, seed)
    write_tokenizer(last, SHAPE.context, build_cased_tokenizer(VOCABULARY))
    return last
