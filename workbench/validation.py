"""The proof: mask heads and watch the task. Curves against K for the list and for random controls.

One primary test, fixed beforehand: the area between the mean of the layer-matched control and the list. Everything
else is secondary, its p-values corrected together (Benjamini–Hochberg).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.budget import in_parts
from workbench.controls import Heads, corrected, matched_lists, p_value, random_lists
from workbench.footprint import forward_bytes
from workbench.interventions import mask, window
from workbench.masked_recall import Ablate, Recall, readable_recall
from workbench.runs import Remember, unremembered
from workbench.shards import depending
from workbench.tasks.needle import Sample

if TYPE_CHECKING:
    from workbench.heads import HeadScores

Ablation = Literal["zero", "mean", "resample", "uniform", "window"]


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
    """How the proof is done. samples: none of them seen by the scan. prose: [b, n] ids without a needle.

    draws, all_layers: control lists at each K. sink, recent: what a windowed head still sees.
    """

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
    sink: int = 4
    recent: int = 64

    def ablate(self, heads: Heads) -> Any:
        """The intervention that takes heads out."""
        if self.how == "window":
            return window(heads, self.sink, self.recent)
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
    metric, base, recall = readable_recall(model, proof.samples, proof.ablate, proof.batch, proof.ends)
    points = []
    for done, k in enumerate(ks):
        progress(done, len(ks))
        points.append(_point(scores, proof, k, recall, remember))
    loss = partial(_loss, model, proof.prose, proof.ablate)
    points = [replace(pt, off_task=loss(tuple(scores.top(pt.k)))) for pt in points]
    progress(len(ks), len(ks))
    area, p, smallest = _primary(points, proof)
    halves = next((pt.k for pt in points if pt.top <= base / 2), None)
    curve = Validation(
        proof.how, metric, base, len(proof.samples), tuple(points), area, p, smallest, halves, loss(()), proof.name
    )
    return corrected(curve)[0]


def _point(scores: HeadScores, proof: Proof, k: int, recall: Recall, remember: Remember) -> Point:
    lists = control_lists(scores, k, proof.draws, proof.all_layers, proof.seed)
    found = recalls({**lists.named, "bottom": [tuple(scores.bottom(k))]}, f"proof-{k}", recall, remember)
    top, bottom = float(found["top"][0]), float(found["bottom"][0])
    matched, free = (tuple(found[name].tolist()) for name in ("matched", "free"))
    p = p_value(-top, -found["matched"]) if matched else None  # harm is minus recall
    return Point(k, top, matched, free, bottom, scores.top(k).ambiguous, lists.enumerated, p=p)


@dataclass(frozen=True)
class Lists:
    """A list of heads and its controls; enumerated: `matched` holds all lists that there are."""

    named: dict[str, list[Heads]]
    enumerated: bool


def control_lists(scores: HeadScores, k: int, draws: int, free: int, seed: int) -> Lists:
    """The top K (`top`), random lists of the same layers (`matched`) and of all layers (`free`)."""
    usable = scores.rank()
    top = tuple(usable[:k])
    matched, every = matched_lists(top, usable, draws, seed + k)
    return Lists({"top": [top], "matched": matched, "free": random_lists(top, usable, free, seed + k)}, every)


def recalls(
    named: Mapping[str, list[Heads]], unit: str, recall: Recall, remember: Remember
) -> dict[str, Float[np.ndarray, " lists"]]:
    """Mean recall of each list by name, computed in one go and remembered."""
    lists = [heads for group in named.values() for heads in group]
    found = remember(depending(unit, lists), lambda: ({"recall": recall(lists)}, {}))[0]["recall"].mean(1)
    ends = np.cumsum([len(group) for group in named.values()])
    return dict(zip(named, np.split(found, ends[:-1]), strict=True))


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
    n, edits = prose.shape[1], ablate(heads) if heads else None

    def some(rows: slice) -> float:
        part = prose[rows]
        logits = model.forward(part, edits=edits).logits[:, :-1].float()
        return len(part) * float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()))

    each = forward_bytes(model, n, n) + 8 * n * int(model.bridge.cfg.d_vocab)  # and their log-probabilities
    return sum(in_parts(model, "prose", len(prose), each, some)) / len(prose)
