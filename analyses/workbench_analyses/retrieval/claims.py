"""What is claimed of retrieval heads, put to the model at hand: yes, no, not testable.

Wu et al. 2024 (arXiv 2404.15574) unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from workbench import bootstrap
from workbench.heads import HeadScores
from workbench.keeping import ENOUGH, Kept
from workbench.reasoning import Harm

if TYPE_CHECKING:
    from workbench_analyses.retrieval.result import Scan

SPARSE = 0.05
T = TypeVar("T", Kept, Harm)


@dataclass(frozen=True)
class Claim:
    """A claim, the answer for this model, and the figures that the answer rests on."""

    name: str
    says: str
    answer: str
    evidence: str


def claims(scan: Scan) -> list[Claim]:
    """All claims; without a copy score only the query-focused one is testable."""
    why = None if scan.scores.n else ("not testable", "no copy score: too few answers")
    answers = {
        "universal": why or _universal(scan),
        "sparse": why or _sparse(scan),
        "intrinsic": why or ("not testable", "needs a second model: `workbench compare RUN RUN` of base and finetune"),
        "dynamic": why or _dynamic(scan),
        "causal": why or _causal(scan),
        "sufficient": why or _sufficient(scan),
        "reasoning": why or _reasoning(scan),
        "query-focused": _query_focused(scan),
    }
    return [Claim(name, SAYS[name], *answer) for name, answer in answers.items()]


SAYS = {
    "universal": "every model with long context has some",
    "sparse": "fewer than 5 % of the heads",
    "intrinsic": "finetuning keeps them",
    "dynamic": "some are always on, others switch with the context",
    "causal": "masking them destroys retrieval, masking others does not",
    "sufficient": "with them full, all other heads may see a window only (DuoAttention)",
    "reasoning": "masking them hurts chain of thought more than direct answers",
    "query-focused": "the question draws some heads to the passage that answers it (QRHead)",
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


def _sufficient(scan: Scan) -> tuple[str, str]:
    v = scan.proved.keeping
    if v is None:
        full = scan.config.proof == "full"
        return "not testable", "too few needles outside the window" if full else "proof=full keeps the list"
    at = _at_list(scan, v.points)
    if at is None or at.p is None:
        return "not testable", "no layer-matched control exists for this list"
    figures = (
        f"recall {at.top:.2f} with the top {at.k} full, {np.mean(at.matched):.2f} with random heads of their layers, "
        f"{v.none:.2f} with none, {v.full:.2f} with all; {len(at.matched)} draws, p = {at.p:.3f}, q = {at.q:.3f}, "
        f"n = {v.n}"
    )
    return _word(at.top >= ENOUGH * v.full and at.p <= 0.05), figures


def _at_list(scan: Scan, points: Sequence[T]) -> T | None:
    """The point of the list's own length, or the last one."""
    found = len(scan.scores.at_least(scan.config.threshold))
    return next((pt for pt in points if pt.k == found), points[-1] if points else None)


def _reasoning(scan: Scan) -> tuple[str, str]:
    v = scan.proved.reasoning
    if v is None:
        return "not testable", "proof=full asks for it"
    if v.not_scored:
        return "not testable", f"not scored: {v.not_scored}"
    at = _at_list(scan, v.points)
    assert at is not None
    figures = (
        f"with the top {at.k} masked {at.thought:.2f} of {v.thought:.2f} reasoned, {at.direct:.2f} of {v.direct:.2f} "
        f"answered at once: {at.more:+.2f} more lost ({at.low:+.2f} to {at.high:+.2f}), n = {v.n}"
    )
    if at.p is None:
        return "not testable", f"{figures}; no layer-matched control exists"
    return _word(at.low > 0 and at.p <= 0.05), f"{figures}, {len(at.matched)} draws, p = {at.p:.3f}, q = {at.q:.3f}"


def _query_focused(scan: Scan) -> tuple[str, str]:
    """The best head of one half of the needles, judged on the other half: a best of many is no surprise."""
    scores = scan.companions["qrhead"]
    if not scores.scored.any() or scores.per_sample is None or scores.groups is None:
        return "not testable", "the vocabulary holds no null query"
    names = list(dict.fromkeys(scores.groups))
    first = np.isin(scores.groups, names[::2])
    if first.all():
        return "not testable", "one needle gives no interval"
    chosen, judged = (
        HeadScores.from_samples(scores.per_sample[rows], scores.method, groups=tuple(np.array(scores.groups)[rows]))
        for rows in (first, ~first)
    )
    best = chosen.rank()[0]
    low, high = (bound[best] for bound in judged.interval())
    figures = f"{best}, best on half of the needles, has {judged.values[best]:.3f} ({low:.3f}–{high:.3f}) on the others"
    return _word(low > 0), f"{figures}, n = {judged.n}"


def _word(holds: bool) -> str:
    return "yes" if holds else "no"
