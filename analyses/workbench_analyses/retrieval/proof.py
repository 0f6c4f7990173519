"""The proof of a scan: its list masked against its controls, on needles that the scan has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch

from workbench.heads import HeadScores
from workbench.interventions import reference
from workbench.models import Model
from workbench.progress import Report
from workbench.runs import Remember
from workbench.tasks.needle import Assembler, Block, Needle, blocks
from workbench.validation import Ablation, Proof, Validation, validate
from workbench_analyses.retrieval_heads import ScanHeads

SAMPLES = 16
LENGTH = 256
STEPS = (1, 2, 3, 4, 6)
DRAWS = {"default": (20, 10), "full": (199, 199)}
"""Layer-matched and all-layer draws at each K."""
PROSE = (8, 128)
"""Rows and tokens of text without a needle."""


def prove(
    config: ScanHeads,
    model: Model,
    assembler: Assembler,
    needles: list[Needle] | None,
    scores: HeadScores,
    stops: set[int],
    remember: Remember,
    report: Report,
) -> Validation | None:
    """Mask the list and its controls; None where it was not asked for or there is no list."""
    if config.proof == "none" or not scores.n:
        return None
    units, samples = unseen(config, assembler, needles), []
    while len(samples) < SAMPLES:
        samples += next(units).samples
    prose = _prose(config, assembler, model)
    draws, free = DRAWS[config.proof]
    found = len(scores.at_least(config.threshold))
    source = reference(model, prose, config.ablation) if config.ablation in ("mean", "resample") else None
    proof = Proof(
        samples[:SAMPLES], sorted({*STEPS, *({found} if found else set())}), draws, free, cast(Ablation, config.ablation),
        source, prose, stops, config.seed, config.batch, config.proof,
    )  # fmt: skip
    return validate(model, scores, proof, remember, report)


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
