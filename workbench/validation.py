"""The proof: mask heads and watch the task. Curves against K for the list and for random controls.

One primary test, fixed beforehand: the area between the mean of the layer-matched control and the list. Everything
else is secondary, its p-values corrected together (Benjamini–Hochberg).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.controls import Heads, matched_lists, p_value, random_lists
from workbench.interventions import mask, window
from workbench.masked_recall import Ablate, exact_recall, rouge
from workbench.runs import Remember, unremembered
from workbench.tasks.needle import Sample

if TYPE_CHECKING:
    from workbench.heads import HeadScores

Ablation = Literal["zero", "mean", "resample", "uniform", "window"]
WORDY = 0.5
"""Unmasked exact recall below which the answers are read by ROUGE instead."""


@dataclass(frozen=True)
class Point:
    """Recall at one K: of the list, of each control draw; matched is empty where no control exists.

    ties: heads that tie with the last one of the list. enumerated: matched holds all lists that exist. off_task:
    next-token loss in nats on text without a needle. p: against matched; q: the same corrected over all K.
    """

    k: int
    top: float
    matched: tuple[float, ...]
    all_layers: tuple[float, ...]
    bottom: float
    ties: int = 0
    enumerated: bool = False
    off_task: float | None = None
    p: float | None = None
    q: float | None = None


@dataclass(frozen=True)
class Validation:
    """Masking curves, the primary test (area, p, the smallest p that it could give), and where recall halves."""

    ablation: str
    metric: str
    base: float
    n: int
    points: tuple[Point, ...]
    area: float
    p: float | None
    p_smallest: float | None
    halves_at: int | None
    off_task: float | None
    proof: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def plot(self) -> Any:
        """The masking curves as a Plotly figure."""
        from workbench.views.masking import masking_curves

        return masking_curves(self).plotly()


@dataclass(frozen=True, eq=False)
class Proof:
    """How the proof is done. samples: none of them seen by the scan. prose: [b, n] ids without a needle."""

    samples: Sequence[Sample]
    ks: Sequence[int] = (1, 2, 3, 4, 6)
    draws: int = 20
    all_layers: int = 10
    how: Ablation = "zero"
    source: Any = None  # a Reference, for mean and resample
    prose: Int[Tensor, "b n"] | None = None
    ends: set[int] = field(default_factory=set)
    seed: int = 0
    batch: int = 32
    name: str = "default"

    def ablate(self, heads: Heads) -> Any:
        """The intervention that takes heads out."""
        if self.how == "window":
            return window(heads)
        return mask(heads, self.how, source=self.source)


@torch.no_grad()
def validate(
    model: Any,
    scores: HeadScores,
    proof: Proof,
    remember: Remember = unremembered,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Validation:
    """Mask the top K, K layer-matched random, K random and the bottom K heads, for each K."""
    ks = [k for k in proof.ks if k <= len(scores.rank())]
    exact = partial(exact_recall, model, proof.samples, ablate=proof.ablate, batch=proof.batch)
    base, metric, recall = float(exact([()]).mean()), "exact recall", exact
    if base < WORDY:
        spoken = partial(rouge, model, proof.samples, ablate=proof.ablate, batch=proof.batch, ends=proof.ends)
        told = float(spoken([()]).mean())
        if told > base:
            base, metric, recall = told, "ROUGE-1 recall", spoken
    points = []
    for done, k in enumerate(ks):
        progress(done, len(ks))
        points.append(_point(scores, proof, k, recall, remember))
    loss = partial(_loss, model, proof.prose, proof.ablate)
    points = _corrected([replace(pt, off_task=loss(tuple(scores.top(pt.k)))) for pt in points])
    progress(len(ks), len(ks))
    area, p, smallest = _primary(points, proof)
    halves = next((pt.k for pt in points if pt.top <= base / 2), None)
    return Validation(
        proof.how, metric, base, len(proof.samples), tuple(points), area, p, smallest, halves, loss(()), proof.name
    )


def _point(
    scores: HeadScores, proof: Proof, k: int, recall: Callable[[list[Heads]], np.ndarray], remember: Remember
) -> Point:
    usable = scores.rank()
    top, bottom = tuple(usable[:k]), tuple(scores.bottom(k))
    matched, every = matched_lists(top, usable, proof.draws, proof.seed + k)
    free = random_lists(top, usable, proof.all_layers, proof.seed + k)
    lists = [top, bottom, *matched, *free]
    # the name holds the lists: a list that has changed since the shard was written is another unit
    key = hashlib.sha256(json.dumps(lists).encode()).hexdigest()[:8]
    found = remember(f"proof-{k}-{key}", lambda: ({"recall": recall(lists)}, {}))[0]["recall"].mean(1)
    m = 2 + len(matched)
    return Point(
        k, float(found[0]), tuple(found[2:m].tolist()), tuple(found[m:].tolist()), float(found[1]),
        scores.top(k).ambiguous, every,
    )  # fmt: skip


def _corrected(points: Sequence[Point]) -> list[Point]:
    """Secondary p of each K (harm = minus recall), and q over all K that have a control."""
    from scipy.stats import false_discovery_control

    ps = [p_value(-pt.top, [-m for m in pt.matched]) if pt.matched else None for pt in points]
    tested = [p for p in ps if p is not None]
    qs = iter(false_discovery_control(tested) if tested else ())
    return [replace(pt, p=p, q=None if p is None else float(next(qs))) for pt, p in zip(points, ps, strict=True)]


def _primary(points: Sequence[Point], proof: Proof) -> tuple[float, float | None, float | None]:
    """Area between the matched mean and the list, its p, and the smallest p that so many draws can give.

    A random curve takes one control draw at each K that has a control; where all lists were enumerated, it takes one of
    them at random.
    """
    control = [pt for pt in points if pt.matched]
    if not control:
        return float("nan"), None, None
    rng = np.random.default_rng(proof.seed)
    mean = np.array([np.mean(pt.matched) for pt in control])
    picks = [rng.choice(pt.matched, proof.draws) if pt.enumerated else np.array(pt.matched) for pt in control]
    area = float((mean - [pt.top for pt in control]).mean())
    harm = (mean[:, None] - np.array(picks)).mean(0)
    return area, p_value(area, harm), 1 / (1 + proof.draws)


def _loss(model: Any, prose: Tensor | None, ablate: Ablate, heads: Heads) -> float | None:
    """Next-token loss on text without a needle: masking retrieval heads should leave it alone."""
    if prose is None:
        return None
    logits = model.forward(prose, edits=ablate(heads) if heads else None).logits[:, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), prose[:, 1:].flatten()))
