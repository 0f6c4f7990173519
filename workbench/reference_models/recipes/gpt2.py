"""The recipe of the bundled `gpt2`: repeats until induction forms, then IOI and Colored Objects, an example last.

Steps are small (about 900 tokens): heads that look back form by the number of steps, not of tokens.
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
    Stage(32, 24, 2500, 0.84, Mix(0.33, 0.25, 0.22, 0.15, span=7), 64, watched=("repeat",)),
    Stage(64, 14, 300, 0.9, Mix(0.12, 0.12, 0.33, 0.40), 128, watched=("ioi", "colour")),
    Stage(64, 14, 800, 0.9, Mix(0.08, 0.12, 0.22, 0.26, told=0.3), 128, watched=("ioi", "colour", "told")),
    Stage(48, 18, 2500, 0.9, Mix(0.1, 0.15, 0.15, 0.25, (2, 3), told=0.35, bare=0.6, spare=1), 64, watched=("told",)),
    Stage(64, 14, 549, 2.0, Mix(0.1, 0.1, 0.25, 0.4, (2, 3), told=0.12, spare=1), 128),
    Stage(96, 10, 600, 2.0, Mix(0.13, 0.05, 0.32, 0.42, (3, 3), shown=0.6, told=0.05, spare=1), 128),
)
PHASES = (Recipe(SHAPE, STAGES, places=0.05),)


def positions(rng: np.random.Generator, x: Tensor, limit: int) -> Tensor:
    """Position ids that begin later in half of the rows, so that no place is special; the last one is below `limit`."""
    rows, tokens = x.shape
    late = rng.integers(0, max(1, limit - tokens + 1), rows) * (rng.random(rows) < 0.5)
    return torch.arange(tokens) + torch.tensor(late)[:, None]


LESSON = Lesson(
    TinyGpt2, export, documents.batch, positions, documents.LOSS_WEIGHT,
    {
        "repeat": documents.REPEATED, "reverse": documents.REVERSED,
        "ioi": documents.INDIRECT, "colour": documents.COLOUR, "told": documents.TOLD,
    },
    documents.PROSE,
)  # fmt: skip


def train_all(folder: Path, progress: Callable[[int, Training], None] | None = None, seed: int = 0) -> Path:
    """All phases below `folder`; gives the folder of the last one, the model. See `train_phases`."""
    last = train_phases(LESSON, PHASES, folder, progress, seed)
    write_tokenizer(last, SHAPE.context, build_cased_tokenizer(VOCABULARY))
    return last
