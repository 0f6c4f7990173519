"""What a cut cache still says, told token by token beside what the full cache says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.simulation.cases import Case


@dataclass(frozen=True)
class Quality:
    """Of one case, over the tokens that are told.

    recall: 1 where every token is the arg-max, so greedy decoding says the answer. kl: KL(full ‖ cut), nats a token.
    agree: share of tokens with the arg-max of the full cache. loss, full_loss: negative log-likelihood, nats a token.
    score, full_score: by RULER's rule, of what the cut and the full cache say freely; NaN where the case is no row of it.
    """

    recall: float
    kl: float
    agree: float
    loss: float
    full_loss: float
    score: float = math.nan
    full_score: float = math.nan


def quality(cases: Sequence[Case], cut: Sequence[Tensor], full: Sequence[Tensor]) -> list[Quality]:
    """Of every case. cut, full: logits of the tokens that are told, [told, vocabulary] each."""
    return [_one(case, a.double(), b.double()) for case, a, b in zip(cases, cut, full, strict=True)]


def _one(case: Case, cut: Float[Tensor, "told v"], full: Float[Tensor, "told v"]) -> Quality:
    expected = torch.tensor(case.tokens[-case.scored :], device=cut.device)
    ours, theirs = cut.log_softmax(-1), full.log_softmax(-1)
    said, at = cut.argmax(-1), torch.arange(len(expected), device=cut.device)
    kl = (theirs.exp() * (theirs - ours)).sum(-1).clamp_min(0)  # rounding can leave it a hair below
    return Quality(
        float((said == expected).all()), float(kl.mean()), float((said == full.argmax(-1)).double().mean()),
        float(-ours[at, expected].mean()), float(-theirs[at, expected].mean()),
    )  # fmt: skip
