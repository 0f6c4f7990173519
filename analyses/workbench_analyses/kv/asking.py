"""The cases of a simulation, and one unit of its work: a variant on a chunk of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from workbench.errors import BadInput
from workbench.models import Model
from workbench.policies.scheme import Scheme
from workbench.progress import counting
from workbench.simulation.cases import Batch, Case, of_sample
from workbench.simulation.costs import costs
from workbench.simulation.decoding import Packs, decode
from workbench.simulation.generating import greedy
from workbench.simulation.quality import Quality, quality
from workbench.simulation.reading_prompts import Prompts, read_by, read_whole, told
from workbench.tasks.needle import Assembler, blocks
from workbench.tasks.ruler import score
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
    for _, unit in zip(counting("needles drawn", rounds), units, strict=False):
        needles += [of_sample(s, config.question == "seen") for s in unit.samples]
        if len(prose) < config.texts:
            text = unit.haystack
            prose.append(Case(text, len(text) - CONTINUED - 1, CONTINUED, 0, "prose", unit.name))
        if len(needles) >= config.samples and len(prose) >= config.texts:
            break
    return {"needle": needles[: config.samples], **({"prose": prose} if prose else {})}


def check_context(context: int, model: Model) -> None:
    """Raises BadInput before prompts are made that no model of this kind would take."""
    if context > model.context:
        raise BadInput(f"context={context}: {model.name} takes {model.context} tokens")


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
    def plain(self) -> tuple[Prompts, list[Tensor]]:
        """What plain attention leaves, and the full cache's logits."""
        return read_whole(self.model, self.batch)

    @cached_property
    def accumulated(self) -> Prompts:
        """The same, with what all rows look at: for the policies that want to know."""
        return read_whole(self.model, self.batch, accumulate=True)[0]

    def prompts(self, scheme: Scheme) -> Prompts:
        """As a scheme reads them."""
        if scheme.prefill is not None:
            return read_by(self.model, self.batch, scheme.prefill)
        return self.accumulated if scheme.accumulates else self.plain[0]

    def ask(self, scheme: Scheme) -> dict[str, np.ndarray]:
        """Quality [cases, fields] and costs [cases, fields] of one policy, in the order of their fields.

        work: entries that all steps together found in the cache, and seconds of attention over them.
        """
        prompts, full = self.prompts(scheme), self.plain[1]
        packs: Packs = {}
        logits, tally = decode(self.model, prompts, scheme, packs)
        cut = told(logits, self.batch.cases)
        layer = next(iter(prompts.keys))
        both = prompts.keys[layer].shape[-1] + prompts.values[layer].shape[-1]
        said = quality(self.batch.cases, cut, full)
        if self.batch.cases[0].row is not None:
            said = self._scored(said, greedy(self.model, prompts, scheme, packs, cut, set(self.model.stop_tokens)))
        paid = costs(self.model, tally, scheme, both, prompts.keys[layer].element_size())
        return {
            "quality": np.array([astuple(q) for q in said]), "costs": np.array([astuple(c) for c in paid]),
            "work": np.array([float(tally.kept.sum()), tally.seconds]),
        }  # fmt: skip

    def _scored(self, said: Sequence[Quality], answers: Sequence[Sequence[int]]) -> list[Quality]:
        """With the score of what the cut cache says by itself, and of what the full cache says."""
        out = []
        for case, own, answer in zip(self.batch.cases, said, answers, strict=True):
            assert case.row is not None
            texts = self.model.tokenizer.batch_decode([list(answer), list(case.tokens[-case.scored :])], True)
            ours, theirs = (score(text, case.row.outputs, case.row.task) for text in texts)
            out.append(replace(own, score=ours, full_score=theirs))
        return out
