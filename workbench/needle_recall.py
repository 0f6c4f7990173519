"""How many needles a model still tells with some heads full and all others streaming: what a recall cut asks."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from workbench.controls import Heads
from workbench.errors import BadInput
from workbench.interventions import window
from workbench.keeping import outside
from workbench.masked_recall import readable_recall
from workbench.recall_cut import Recall, Told
from workbench.tasks.needle import Assembler, Sample, answer_ends, blocks

if TYPE_CHECKING:
    from workbench.models import Model

SAMPLES = 64
LONGEST = 1024
DEPTHS = (0.0, 25.0, 50.0, 75.0)
ROUNDS = 200
SEEDS = (40_000, 50_000)
"""Added to the seed for the samples of the search and of the report; scans and proofs use none of them."""


def needle_recall(
    model: Model,
    sink: int,
    recent: int,
    samples: int = SAMPLES,
    length: int | None = None,
    seed: int = 0,
    batch: int = 32,
) -> Told:
    """Two questions about lists of full query heads, on needles that no streaming head (sink + recent tokens) sees.

    length: of the prompts in tokens, at most what the model takes. The same needles answer for every list. Raises
    BadInput where no needle lies outside the window.
    """
    length = min(length or LONGEST, model.context - 8)
    every = [(layer, head) for layer in model.seam.layers for head in range(model.n_heads)]
    narrow = partial(window, sink=sink, recent=recent)
    ends = answer_ends(model.tokenizer, model.stop_tokens)

    def ask(part: int) -> Recall:
        asked = far_needles(Assembler(model.tokenizer), length, seed + SEEDS[part], samples, sink, recent)
        told = readable_recall(model, asked, narrow, batch, ends)[2]

        def recall(lists: list[Heads]) -> np.ndarray:
            kept = [set(heads) for heads in lists]
            return told([tuple(h for h in every if h not in full) for full in kept])

        return recall

    return Told(ask(0), ask(1))


def far_needles(assembler: Assembler, length: int, seed: int, n: int, sink: int, recent: int) -> list[Sample]:
    """Needles in prompts of this length that lie outside the window. Raises BadInput where there is no room for them."""
    units = blocks(assembler, [length], DEPTHS, ROUNDS, seed)
    far = list(itertools.islice((s for unit in units for s in outside(unit.samples, sink, recent)), n))
    if len(far) < n:
        raise BadInput(
            f"prompts of {length} tokens have no place for needles outside sink_size={sink} and recent_size={recent}: "
            "give a longer context= or smaller windows"
        )
    return far
