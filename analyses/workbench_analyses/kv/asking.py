"""The cases of a simulation, and one unit of its work: a variant on a chunk of cases."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import astuple
from functools import cached_property

import numpy as np

from workbench.errors import BadInput
from workbench.models import Model
from workbench.policies.scheme import Scheme
from workbench.simulation.cases import Batch, Case, of_sample
from workbench.simulation.costs import costs
from workbench.simulation.decoding import decode
from workbench.simulation.quality import quality
from workbench.simulation.reading_prompts import read_by, read_whole, told
from workbench.tasks.needle import Assembler, blocks
from workbench_analyses.kv_policies import Simulate

CONTINUED, SEED = 32, 30_000
"""Tokens of a text that are told; what is added to the seed: scans and proofs use other needles."""


def cases(config: Simulate, assembler: Assembler) -> dict[str, list[Case]]:
    """Needles, and texts without one, by kind."""
    rounds = -(-max(config.samples, config.texts * len(config.depths)) // len(config.depths))
    units = blocks(
        assembler, [config.context], config.depths, rounds, config.seed + SEED, haystack=config.haystack
    )  # fmt: skip
    needles: list[Case] = []
    prose: list[Case] = []
    for unit in itertools.islice(units, rounds):
        needles += [of_sample(s, config.question == "seen") for s in unit.samples]
        if len(prose) < config.texts:
            text = unit.haystack
            prose.append(Case(text, len(text) - CONTINUED - 1, CONTINUED, 0, "prose", unit.name))
        if len(needles) >= config.samples and len(prose) >= config.texts:
            break
    return {"needle": needles[: config.samples], **({"prose": prose} if prose else {})}


def check_length(model: Model, asked: dict[str, list[Case]]) -> None:
    """Raises BadInput for prompts that the model does not take."""
    longest = max(len(c.tokens) for group in asked.values() for c in group)
    if longest > model.context:
        raise BadInput(f"prompts of {longest} tokens; {model.name} takes {model.context}: lower context=")


class Chunk:
    """Some cases, whose prompts are read once by plain attention, when the first variant needs them."""

    def __init__(self, model: Model, asked: Sequence[Case]) -> None:
        self.model, self.batch = model, Batch.of(asked, model.device)

    @cached_property
    def plain(self):
        """What plain attention leaves, and the full cache's logits."""
        return read_whole(self.model, self.batch)

    def ask(self, scheme: Scheme) -> dict[str, np.ndarray]:
        """Quality [cases, 5] and costs [cases, 8] of one policy, in the order of their fields."""
        prompts, full = self.plain
        if scheme.prefill is not None:
            prompts = read_by(self.model, self.batch, scheme.prefill)
        logits, tally = decode(self.model, prompts, scheme)
        layer = next(iter(prompts.keys))
        both = prompts.keys[layer].shape[-1] + prompts.values[layer].shape[-1]
        said = quality(self.batch.cases, told(logits, self.batch.cases), full)
        paid = costs(self.model, tally, scheme, both, prompts.keys[layer].element_size())
        return {"quality": np.array([astuple(q) for q in said]), "costs": np.array([astuple(c) for c in paid])}
