"""What Wu et al. 2024 (arXiv 2404.15574) claim of retrieval heads, put to the model at hand: yes, no, not testable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench import bootstrap

if TYPE_CHECKING:
    from workbench_analyses.retrieval.result import Scan

SPARSE = 0.05


@dataclass(frozen=True)
class Claim:
    """A claim, the answer for this model, and the figures that the answer rests on."""

    name: str
    says: str
    answer: str
    evidence: str


def claims(scan: Scan) -> list[Claim]:
    """The five claims; nothing is testable without a copy score."""
    if not scan.scores.n:
        why = "no copy score: too few answers"
        return [Claim(name, says, "not testable", why) for name, says in SAYS.items()]
    return [
        Claim(name, SAYS[name], *answer)
        for name, answer in (
            ("universal", _universal(scan)),
            ("sparse", _sparse(scan)),
            ("intrinsic", ("not testable", "needs a second model: `workbench compare RUN RUN` of base and finetune")),
            ("dynamic", _dynamic(scan)),
            ("causal", _causal(scan)),
        )
    ]


SAYS = {
    "universal": "every model with long context has some",
    "sparse": "fewer than 5 % of the heads",
    "intrinsic": "finetuning keeps them",
    "dynamic": "some are always on, others switch with the context",
    "causal": "masking them destroys retrieval, masking others does not",
}


def _universal(scan: Scan) -> tuple[str, str]:
    low, _ = scan.scores.interval()
    sure = int((low >= scan.config.threshold).sum())
    found = len(scan.scores.at_least(scan.config.threshold))
    return _word(sure > 0), f"{found} heads ≥ {scan.config.threshold:g}, {sure} of them with the whole interval"


def _sparse(scan: Scan) -> tuple[str, str]:
    scores = scan.scores
    assert scores.per_sample is not None
    share = len(scores.at_least(scan.config.threshold)) / scores.scored.sum()
    means = bootstrap.resampled_means(scores.per_sample[:, scores.scored], scores.groups, 1000, 0)
    if means is None:
        return _word(share < SPARSE), f"{share:.1%} of the heads; one needle gives no interval"
    shares = (bootstrap.settled(means) >= bootstrap.settled(scan.config.threshold)).mean(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return _word(share < SPARSE), f"{share:.1%} of the heads ({low:.1%}–{high:.1%})"


def _dynamic(scan: Scan) -> tuple[str, str]:
    always, never = len(scan.scores.always_on()), len(scan.scores.never_on())
    some = int(scan.scores.scored.sum()) - always - never
    return _word(always > 0 and some > 0), f"{always} heads on in every sample, {some} in some, {never} in none"


def _causal(scan: Scan) -> tuple[str, str]:
    v = scan.validation
    if v is None or v.p is None:
        return "not testable", "not validated"
    return _word(v.p <= 0.05), f"area {v.area:.2f} between the curves, p = {v.p:.3f}, n = {v.n}"


def _word(holds: bool) -> str:
    return "yes" if holds else "no"
