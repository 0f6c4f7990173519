"""The proof of a scan: its list masked, and kept, against its controls, on needles that the scan has not seen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch

from workbench.controls import corrected
from workbench.heads import HeadScores
from workbench.interventions import reference
from workbench.keeping import Keeping, keep, outside
from workbench.models import Model
from workbench.progress import Stages
from workbench.reasoning import Reasoning, reason
from workbench.runs import Remember
from workbench.tasks.needle import Assembler, Block, Needle, Sample, blocks, line_ends
from workbench.tasks.word_problems import problems
from workbench.validation import Ablation, Proof, Validation, validate
from workbench_analyses.retrieval_heads import ScanHeads

SAMPLES = 16
LENGTH = 256
STEPS = (1, 2, 3, 4, 6)
DRAWS = {"default": (20, 10), "full": (199, 49)}
"""Layer-matched and all-layer draws at each K of the masking curve."""
CURVE_DRAWS = 20
"""Draws at a K that is not the list's own length, of the curves that `proof=full` adds."""
PROBLEMS = 24
PROSE = (8, 128)
"""Rows and tokens of text without a needle."""


@dataclass(frozen=True)
class Proved:
    """What was asked of the list; None where it was not, or cannot be: no list, no needle outside the window."""

    validation: Validation | None = None
    keeping: Keeping | None = None
    reasoning: Reasoning | None = None


def prove(
    config: ScanHeads,
    model: Model,
    assembler: Assembler,
    needles: list[Needle] | None,
    scores: HeadScores,
    stops: set[int],
    remember: Remember,
    stages: Stages,
) -> Proved:
    """Mask the list and its controls; with `proof=full` keep them, too, and mask them while the model reasons."""
    if config.proof == "none" or not scores.n:
        return Proved()
    prose = _prose(config, assembler, model)
    draws, free = DRAWS[config.proof]
    found = len(scores.at_least(config.threshold))
    source = reference(model, prose, config.ablation) if config.ablation in ("mean", "resample") else None
    samples = list(itertools.islice(_unseen_samples(config, assembler, needles), SAMPLES))
    proof = Proof(
        samples, sorted({*STEPS, *({found} if found else set())}), draws, free, cast(Ablation, config.ablation),
        source, prose, stops, config.seed, config.batch, config.proof, config.sink, config.recent,
    )  # fmt: skip
    validation = validate(model, scores, proof, remember, stages.stage("proof"))
    if config.proof != "full":
        return Proved(validation)
    far = (s for s in _unseen_samples(config, assembler, needles) if outside([s], config.sink, config.recent))
    kept = replace(proof, samples=list(itertools.islice(far, SAMPLES)), all_layers=CURVE_DRAWS)
    keeping = keep(
        model, scores, kept, lambda k: draws if k == found else CURVE_DRAWS, remember, stages.stage("kept heads")
    )
    ends = line_ends(model.tokenizer, model.stop_tokens)
    asked = problems(assembler, PROBLEMS, config.seed + 30_000)
    short = replace(proof, draws=CURVE_DRAWS, ends=ends)
    reasoning = reason(model, scores, asked, short, remember, stages.stage("reasoning"))
    return Proved(*corrected(validation, keeping, reasoning))


def _unseen_samples(config: ScanHeads, assembler: Assembler, needles: list[Needle] | None) -> Iterator[Sample]:
    return (sample for unit in unseen(config, assembler, needles) for sample in unit.samples)


def unseen(
    config: ScanHeads, assembler: Assembler, needles: list[Needle] | None, length: int = LENGTH
) -> Iterator[Block]:
    """Units of a seed of their own, so that haystacks and generated needles are new; the user's needles come again."""
    lengths = [min(length, max(config.prompt_lengths))]
    return blocks(
        assembler, lengths, config.depths, SAMPLES + 1, config.seed + 10_000, needles=needles, haystack=config.haystack
    )


def _prose(config: ScanHeads, assembler: Assembler, model: Model) -> torch.Tensor:
    """Haystack without needle or question, [rows, tokens]."""
    rows, tokens = PROSE
    units = blocks(assembler, [tokens + 128], config.depths[:1], rows, config.seed + 20_000, haystack=config.haystack)
    each = [list(unit.haystack) for unit in units]
    return torch.tensor([row[: min(tokens, *map(len, each))] for row in each], device=model.device)
