"""Do retrieval heads matter more where a model reasons in words than where it answers at once?

The same problems in two ways (`tasks.word_problems`), heads masked in both. Harm is the share of the unmasked answers
that is lost. The claim (Wu et al. 2024, arXiv 2404.15574 §4.3) is that reasoning is harmed more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from workbench import bootstrap
from workbench.controls import Heads, p_value
from workbench.masked_recall import responses
from workbench.runs import Remember, unremembered
from workbench.shards import depending
from workbench.tasks.word_problems import STEPS, Problem, answer_of
from workbench.validation import Proof, control_lists

if TYPE_CHECKING:
    from workbench.heads import HeadScores

LEAST = 5
"""Problems that must be answered in each way, unmasked, for a harm to be measured."""
DRAWS = 1000


@dataclass(frozen=True)
class Harm:
    """With the top K masked: share answered in each way, and how much more of the reasoned answers is lost.

    low, high: 95 % bootstrap over problems. matched: the same difference of each control draw; p: one-sided, against
    them; q: corrected.
    """

    k: int
    thought: float
    direct: float
    more: float
    low: float
    high: float
    matched: tuple[float, ...]
    p: float | None = None
    q: float | None = None


@dataclass(frozen=True)
class Reasoning:
    """Share answered in each way, unmasked, and the harm at each K; not_scored: why there is none, else empty."""

    n: int
    thought: float
    direct: float
    points: tuple[Harm, ...] = ()
    not_scored: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@torch.no_grad()
def reason(
    model: Any,
    scores: HeadScores,
    problems: Sequence[Problem] | None,
    proof: Proof,
    remember: Remember = unremembered,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reasoning:
    """Mask the top K and K layer-matched random heads while problems are solved in both ways, for each K.

    proof: ks, ablation, draws, the ends of a response, seed and batch. problems None: the vocabulary lacks their words.
    """
    if problems is None:
        return Reasoning(0, 0.0, 0.0, (), "the vocabulary lacks words of the problems")
    base = _answered(model, problems, [()], proof, remember)[:, 0]
    thought, direct = (float(x) for x in base.mean(1))
    if base.sum(1).min() < LEAST:
        solved = f"{int(base[0].sum())} reasoned and {int(base[1].sum())} answered at once, of {len(problems)}"
        return Reasoning(len(problems), thought, direct, (), f"{solved}; at least {LEAST} of each are needed")
    ks, points = [k for k in proof.ks if k <= len(scores.rank())], []
    for done, k in enumerate(ks):
        progress(done, len(ks))
        named = control_lists(scores, k, proof.draws, 0, proof.seed).named
        found = _answered(model, problems, [*named["top"], *named["matched"]], proof, remember)
        points.append(_harm(k, base, found, proof.seed))
    progress(len(ks), len(ks))
    return Reasoning(len(problems), thought, direct, tuple(points))


def _answered(
    model: Any, problems: Sequence[Problem], lists: list[Heads], proof: Proof, remember: Remember
) -> Float[np.ndarray, "2 lists problems"]:
    """1 where a response ends in the answer: reasoned first, at once second."""

    def work() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        found = np.zeros((2, len(lists), len(problems)))
        for i, way in enumerate(("thought", "direct")):
            for j, problem in enumerate(problems):
                prompt = getattr(problem, way)
                texts = responses(model, prompt, lists, proof.ablate, proof.batch, proof.ends, STEPS[way])
                found[i, :, j] = [answer_of(text, way) == problem.answer for text in texts]
        return {"answered": found}, {}

    return remember(depending("reasoning", lists), work)[0]["answered"]


def _harm(
    k: int, base: Float[np.ndarray, "2 problems"], found: Float[np.ndarray, "2 lists problems"], seed: int
) -> Harm:
    more = more_lost(base, found)
    n = base.shape[1]
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS).astype(float)
    again = more_lost(base, found[:, 0], weights)
    low, high = np.nanquantile(again, [0.025, 0.975])
    top, matched = float(more[0]), tuple(more[1:].tolist())
    thought, direct = found[:, 0].mean(1)
    p = p_value(bootstrap.settled(top).item(), bootstrap.settled(np.array(matched))) if matched else None
    return Harm(k, float(thought), float(direct), top, float(low), float(high), matched, p)


def more_lost(
    base: Float[np.ndarray, "2 problems"],
    found: Float[np.ndarray, "2 *lists problems"],
    weights: Float[np.ndarray, "draws problems"] | None = None,
) -> Float[np.ndarray, "*lists"]:
    """Share of the reasoned answers that is lost minus that of the direct ones; NaN where a resample holds none."""
    w = np.ones((1, base.shape[1])) if weights is None else weights
    with np.errstate(invalid="ignore", divide="ignore"):
        held = (found @ w.T) / (base @ w.T).reshape(2, *[1] * (found.ndim - 2), -1)
    lost = (1 - held).squeeze(-1) if weights is None else 1 - held
    return lost[0] - lost[1]
