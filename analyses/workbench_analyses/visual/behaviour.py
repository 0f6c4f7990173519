"""What a model says before anything is done to it: CHAIR of its captions, POPE, and yes to what only habit would add."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.bootstrap import percentile_interval
from workbench.tasks import scene_observer
from workbench.tasks.chair import Caption, Chair, Judged, chair, judge
from workbench.tasks.pope import STRATEGIES, Answer, Pope, Question, parse, pope, questions
from workbench.tasks.scene_objects import OBJECTS, PAIRS
from workbench_analyses.visual.sights import COUNTERFACTUAL, ORDINARY, Sets, Sight

DRAWS = 1000
SURE = 0.5
"""From which probability an ideal observer says yes."""
PARTNERS = tuple(partner for _, partner in PAIRS)


class Figure(NamedTuple):
    """A value with its 95 % bootstrap interval over pictures."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Partner:
    """Questions about the absent partner of what is there: yes of the model, of the ideal observer, and the excess.

    n: questions. pictures: those they are about. auc: of log p(yes) − log p(no), present (ordinary scenes) against absent
    partners: a mere shift of the threshold leaves it as it is.
    """

    n: int
    pictures: int
    false_yes: Figure
    ideal: float
    excess: Figure
    auc: Figure


@dataclass(frozen=True)
class Behaviour:
    """Captions as judged, figures by kind of picture; pope: by kind and strategy. partner: of rendered scenes."""

    judged: Mapping[str, Sequence[Judged]]
    chair: Mapping[str, Chair]
    intervals: Mapping[str, Mapping[str, Figure]]
    pope: Mapping[str, Mapping[str, Pope]]
    pope_accuracy: Mapping[str, Mapping[str, Figure]]
    partner: Partner | None

    def summary(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "chair": {kind: c.summary() for kind, c in self.chair.items()},
            "chair_intervals": {k: {n: f._asdict() for n, f in v.items()} for k, v in self.intervals.items()},
            "pope": {kind: {s: p.summary() for s, p in by.items()} for kind, by in self.pope.items()},
            "partner": None if self.partner is None else {
                k: v._asdict() if isinstance(v, Figure) else v for k, v in vars(self.partner).items()
            },
        }  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a model said of the report set: captions and yes by kind; margins of present and absent partners."""

    captions: Mapping[str, Sequence[Caption]]
    answers: Mapping[str, Mapping[tuple[str, str], str]]
    present: tuple[Sequence[tuple[Sight, str]], Sequence[float]] | None
    absent: tuple[Sequence[tuple[Sight, str]], Sequence[float]] | None


def behaviour(sets: Sets, said: Said) -> Behaviour:
    """The figures of what was said of the report set."""
    shown = sets["report"]
    truth = {kind: {s.name: s.objects for s in sights} for kind, sights in shown.items()}
    judged = {kind: judge(said.captions[kind], truth[kind], sets.words) for kind in shown}
    by_kind: dict[str, dict[str, Pope]] = {}
    accuracy: dict[str, dict[str, Figure]] = {}
    for kind in shown:
        by_kind[kind], accuracy[kind] = {}, {}
        for strategy in STRATEGIES:
            asked = questions_of(sets, kind, strategy)
            if not asked:
                continue
            got = [parse(said.answers[kind][q.image, q.object]) for q in asked]
            by_kind[kind][strategy] = pope(got, asked)
            accuracy[kind][strategy] = _accuracy(asked, got)
    partner = None
    if said.present is not None and said.absent is not None:
        partner = _partner(said.present, said.absent)
    chairs = {kind: chair(rows) for kind, rows in judged.items()}
    return Behaviour(judged, chairs, {k: chair_intervals(v) for k, v in judged.items()}, by_kind, accuracy, partner)


def questions_of(sets: Sets, kind: str, strategy: str) -> list[Question]:
    """POPE's questions about the report set's pictures of a kind; none where nothing is in them."""
    shown = {s.name: s.objects for s in sets["report"][kind]}
    return questions(shown, sets.habit, strategy)


def partners(sets: Sets) -> tuple[list[tuple[Sight, str]], list[tuple[Sight, str]]]:
    """Partners that are there in ordinary scenes, and partners that are not in counterfactual ones."""
    there = [(s, w) for s in sets["report"][ORDINARY] for w in s.objects if w in PARTNERS]
    absent = [(s, w) for s in sets["report"][COUNTERFACTUAL] if s.scene is not None for w in s.scene.missing]
    return there, absent


def chair_intervals(judged: Sequence[Judged], draws: int = DRAWS) -> dict[str, Figure]:
    """CHAIR_S, CHAIR_I (also of distinct objects), recall and length with intervals: pictures are drawn again."""
    counts = np.array([
        [bool(j.invented), 1, len(j.invented), len(j.mentions), len(j.named - j.objects), len(j.named),
         len(j.named & j.objects), len(j.objects), j.words]
        for j in judged
    ], dtype=float)  # fmt: skip
    pairs = {"chair_s": (0, 1), "chair_i": (2, 3), "chair_i_distinct": (4, 5), "recall": (6, 7), "length": (8, 1)}
    return {name: _ratio(counts[:, a], counts[:, b], draws) for name, (a, b) in pairs.items()}


def _ratio(part: Float[np.ndarray, " n"], whole: Float[np.ndarray, " n"], draws: int = DRAWS) -> Figure:
    """Sum over sum, both drawn again together."""
    weights = np.random.default_rng(0).multinomial(len(part), np.full(len(part), 1 / len(part)), size=draws)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = (weights @ part) / (weights @ whole)
        value = part.sum() / whole.sum()
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Figure(float(value), float(low), float(high))


def _accuracy(asked: Sequence[Question], got: Sequence[Answer]) -> Figure:
    names = {name: i for i, name in enumerate(dict.fromkeys(q.image for q in asked))}
    right, n = np.zeros(len(names)), np.zeros(len(names))
    for q, a in zip(asked, got, strict=True):
        right[names[q.image]] += a.yes == q.present
        n[names[q.image]] += 1
    return _ratio(right, n)


def _partner(
    present: tuple[Sequence[tuple[Sight, str]], Sequence[float]], absent: tuple[Sequence[tuple[Sight, str]], Sequence[float]]
) -> Partner:  # fmt: skip
    (_, there), (asked, margins) = present, absent
    scenes = {s.name: s.scene for s, _ in asked if s.scene is not None}
    belief = dict(zip(scenes, scene_observer.probabilities(list(scenes.values())), strict=True))
    ideal = np.array([belief[s.name][OBJECTS.index(w)] > SURE for s, w in asked], dtype=float)
    yes, groups = (np.asarray(margins) > 0).astype(float), [s.name for s, _ in asked]
    auc = _auc(np.asarray(there), np.asarray(margins), [s.name for s, _ in present[0]], groups)
    return Partner(
        len(asked), len(scenes), _mean(yes, groups), float(ideal.mean()), _mean(yes - ideal, groups), auc
    )  # fmt: skip


def _mean(x: Float[np.ndarray, " n"], groups: Sequence[str]) -> Figure:
    low, high = percentile_interval(x[:, None], groups, 0.95, DRAWS, 0)
    return Figure(float(x.mean()), float(low[0]), float(high[0]))


def _auc(
    above: Float[np.ndarray, " a"], below: Float[np.ndarray, " b"], its: Sequence[str], others: Sequence[str],
    draws: int = 300,
) -> Figure:  # fmt: skip
    """Chance that a present partner's margin is above an absent one's, ties half; pictures of both are drawn again."""
    wins = (above[:, None] > below[None]) + 0.5 * (above[:, None] == below[None])
    rng, drawn = np.random.default_rng(0), []
    left, right = _drawing(its, rng), _drawing(others, rng)
    for _ in range(draws):
        a, b = left(), right()
        drawn.append(a @ wins @ b / (a.sum() * b.sum()))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(float(wins.mean()), float(low), float(high))


def _drawing(groups: Sequence[str], rng: np.random.Generator) -> Callable[[], Float[np.ndarray, " n"]]:
    """Weights of rows in one draw of their groups."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    return lambda: rng.multinomial(len(names), np.full(len(names), 1 / len(names)))[member].astype(float)
