"""The other direction of the proof: keep the top K heads full, give all others a window, and see what is still told.

It is what a serving configuration does (DuoAttention, arXiv 2410.10819): streaming heads hold the first tokens and the
last ones. The control keeps as many random heads of the same layers. Only needles outside the window are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.controls import Heads, p_value
from workbench.interventions import window
from workbench.masked_recall import readable_recall
from workbench.runs import Remember, unremembered
from workbench.tasks.needle import Sample
from workbench.validation import Proof, control_lists, recalls

if TYPE_CHECKING:
    from workbench.heads import HeadScores

LEAST = 5
"""Needles outside the window below which nothing is said."""
ENOUGH = 0.9
"""Share of the unwindowed recall at which the kept heads suffice."""


@dataclass(frozen=True)
class Kept:
    """Recall with K heads full: of the list, of each control draw. p: one-sided, against matched; q: corrected."""

    k: int
    top: float
    matched: tuple[float, ...]
    all_layers: tuple[float, ...]
    enumerated: bool = False
    p: float | None = None
    q: float | None = None


@dataclass(frozen=True)
class Keeping:
    """The curve, between recall with every head windowed (`none`) and with every head full (`full`)."""

    sink: int
    recent: int
    metric: str
    full: float
    none: float
    n: int
    points: tuple[Kept, ...]

    @property
    def enough_at(self) -> int | None:
        """The least K whose recall is at least ENOUGH of the unwindowed; None where no K reaches it, or that is 0."""
        return next((pt.k for pt in self.points if pt.top >= ENOUGH * self.full > 0), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "enough_at": self.enough_at}

    def plot(self) -> Any:
        """The curve as a Plotly figure."""
        from workbench.views.keeping_curves import keeping_curves

        return keeping_curves(self).plotly()


def outside(samples: Sequence[Sample], sink: int, recent: int) -> list[Sample]:
    """Samples whose answer no windowed head sees when the answer begins."""
    ends = ((s, *s.spans["answer"]) for s in samples)
    return [s for s, start, end in ends if start >= sink and end <= len(s.tokens) - recent]


@torch.no_grad()
def keep(
    model: Any,
    scores: HeadScores,
    proof: Proof,
    draws: Callable[[int], int],
    remember: Remember = unremembered,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Keeping | None:
    """Keep the top K, K layer-matched random and K random heads full, for each K; None with too few needles outside.

    draws: matched lists at a K. proof: samples, ks, all-layer draws, window, seed and batch; its `how` is not used.
    """
    samples, every = outside(proof.samples, proof.sink, proof.recent), scores.rank()
    if len(samples) < LEAST:
        return None
    narrow = partial(window, sink=proof.sink, recent=proof.recent)
    metric, full, told = readable_recall(model, samples, narrow, proof.batch, proof.ends)

    def recall(lists: list[Heads]) -> np.ndarray:
        """The recall with these heads full: all others are edited."""
        return told([tuple(h for h in every if h not in kept) for kept in lists])

    none = float(recalls({"none": [()]}, "keep-0", recall, remember)["none"][0])
    ks, points = [k for k in proof.ks if k < len(every)], []
    for done, k in enumerate(ks):
        progress(done, len(ks))
        lists = control_lists(scores, k, draws(k), proof.all_layers, proof.seed)
        found = recalls(lists.named, f"keep-{k}", recall, remember)
        top, matched, free = (tuple(found[name].tolist()) for name in ("top", "matched", "free"))
        p = p_value(top[0], matched) if matched else None
        points.append(Kept(k, top[0], matched, free, lists.enumerated, p))
    progress(len(ks), len(ks))
    return Keeping(proof.sink, proof.recent, metric, full, none, len(samples), tuple(points))
