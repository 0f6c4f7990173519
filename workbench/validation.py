"""The proof: mask heads and watch the task. Curves against K for the list and for random controls.

The control is drawn from the layers that hold the list, in the same numbers, the list excluded: in a small model heads
of early layers are necessary for everything, so controls across layers break the task too.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from workbench.interventions import mask
from workbench.tasks.needle import Sample

Heads = tuple[tuple[int, int], ...]
Ablation = Literal["zero", "mean", "resample", "uniform"]


@dataclass(frozen=True)
class Point:
    """Exact recall at one K: of the list, of each control draw; matched is empty where no control exists."""

    k: int
    top: float
    matched: tuple[float, ...]
    all_layers: tuple[float, ...]
    bottom: float
    ties: int = 0
    enumerated: bool = False


@dataclass(frozen=True)
class Validation:
    """Masking curves and the one primary test, fixed beforehand: the area between matched and top curves."""

    ablation: str
    base: float
    n: int
    points: tuple[Point, ...]
    area: float
    p: float | None
    p_smallest: float | None
    halves_at: int | None
    off_task: tuple[float, float] | None  # next-token loss on prose: unmasked, list masked
    off_task_k: int
    proof: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def matched_draws(
    chosen: Heads, heads: int, draws: int, rng: np.random.Generator, usable: set[tuple[int, int]]
) -> tuple[list[Heads], bool]:
    """Random sets with the list's number of heads in each of its layers, none of them in the list.

    Empty where a layer has fewer others; all sets (second value true) where fewer exist than were asked for.
    """
    need = Counter(layer for layer, _ in chosen)
    pools = {layer: [h for h in range(heads) if (layer, h) in usable and (layer, h) not in chosen] for layer in need}
    if any(len(pools[layer]) < n for layer, n in need.items()):
        return [], False
    total = math.prod(math.comb(len(pools[layer]), n) for layer, n in need.items())
    if total <= draws:
        parts = [
            [[(layer, h) for h in c] for c in itertools.combinations(pools[layer], n)] for layer, n in need.items()
        ]
        return [tuple(itertools.chain(*p)) for p in itertools.product(*parts)], True
    out: dict[Heads, None] = {}
    while len(out) < draws:
        picks = [(layer, int(h)) for layer, n in need.items() for h in rng.choice(pools[layer], n, replace=False)]
        out[tuple(sorted(picks))] = None
    return list(out), False


def exact_recall(
    model: Any, samples: Sequence[Sample], lists: Sequence[Heads], how: Ablation, batch: int, source: Any = None
) -> np.ndarray:
    """Share of samples answered exactly with each list masked, [lists, samples]; every row its own heads.

    Samples run as rows of one batch, resumed at the lowest layer that any list of the batch edits.
    """
    out = np.zeros((len(lists), len(samples)))
    for j, sample in enumerate(samples):
        tokens = torch.tensor([[*sample.tokens, *sample.answer]], device=model.device)
        first, n = len(sample.tokens) - 1, len(sample.answer)
        answer = torch.tensor(sample.answer, device=model.device)
        by_layer: dict[int, list[int]] = {}
        for i, heads in enumerate(lists):
            by_layer.setdefault(min((layer for layer, _ in heads), default=model.n_layers - 1), []).append(i)
        for layer, members in by_layer.items():
            resid = model.resid_pre(layer, tokens)
            for part in (members[s : s + batch] for s in range(0, len(members), batch)):
                edits = [mask(lists[i], how, source=source) for i in part]
                got = model.forward_from(
                    layer, resid.expand(len(part), -1, -1), edits=edits, keep=slice(first, first + n),
                    decode_from=[first],
                )  # fmt: skip
                out[part, j] = (got.logits.argmax(-1) == answer).all(-1).cpu().numpy()
    return out


@torch.no_grad()
def validate(
    model: Any,
    scores: Any,
    samples: Sequence[Sample],
    ks: Sequence[int] = (1, 2, 3, 4, 6),
    draws: int = 20,
    all_layers: int = 10,
    how: Ablation = "zero",
    seed: int = 0,
    batch: int = 32,
    prose: torch.Tensor | None = None,
    source: Any = None,
    proof: str = "default",
    progress: Callable[[str], None] = lambda text: None,
) -> Validation:
    """Mask the top K, K layer-matched random, K random and the bottom K heads, for each K.

    prose: [b, n] ids of text without a needle, for the off-task control at the K where recall halves.
    """
    rng = np.random.default_rng(seed)
    ranked = [tuple(h) for h in scores.rank()]
    usable = set(ranked)
    ks = [k for k in ks if k <= len(ranked)]
    base = float(exact_recall(model, samples, [()], "zero", 1).mean())
    points = []
    for k in ks:
        progress(f"masking {k} heads")
        top, bottom = tuple(ranked[:k]), tuple(ranked[-k:])
        matched, every = matched_draws(top, model.n_heads, draws, rng, usable)
        others = [h for h in ranked if h not in top]
        free = [tuple(others[i] for i in rng.choice(len(others), k, replace=False)) for _ in range(all_layers)]
        free = free if len(others) >= k else []
        recall = exact_recall(model, samples, [top, bottom, *matched, *free], how, batch, source).mean(1)
        m = 2 + len(matched)
        points.append(
            Point(k, float(recall[0]), tuple(recall[2:m].tolist()), tuple(recall[m:].tolist()), float(recall[1]),
                  scores.top(k).ambiguous, every)
        )  # fmt: skip
    area, p, smallest = _primary(points, draws, rng)
    halves = next((pt.k for pt in points if pt.top <= base / 2), None)
    k_off = halves or (ks[-1] if ks else 0)
    off = _off_task(model, prose, tuple(ranked[:k_off]), how, source) if prose is not None and k_off else None
    return Validation(how, base, len(samples), tuple(points), area, p, smallest, halves, off, k_off, proof)


def _primary(points: Sequence[Point], draws: int, rng: np.random.Generator) -> tuple[float, float | None, float | None]:
    """Area between the matched mean and the list, and p = (1 + draws at least as harmful) / (1 + draws).

    A random curve takes one control draw at each K that has a control; where all sets were enumerated, it takes one of
    them at random.
    """
    control = [pt for pt in points if pt.matched]
    if not control or draws < 1:
        return float("nan"), None, None
    mean = np.array([np.mean(pt.matched) for pt in control])
    picks = [rng.choice(pt.matched, draws) if pt.enumerated else np.array(pt.matched) for pt in control]
    area = float((mean - [pt.top for pt in control]).mean())
    harm = (mean[:, None] - np.array(picks)).mean(0)
    return area, float((1 + (harm >= area - 1e-12).sum()) / (1 + draws)), 1 / (1 + draws)


def _off_task(model: Any, prose: torch.Tensor, heads: Heads, how: Ablation, source: Any) -> tuple[float, float]:
    losses = []
    for edits in (None, mask(heads, how, source=source)):
        logits = model.forward(prose, edits=edits).logits[:, :-1].float()
        losses.append(float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), prose[:, 1:].flatten())))
    return losses[0], losses[1]
