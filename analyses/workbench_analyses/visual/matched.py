"""How much captions invent at equal recall: curves over strengths, read where they have lost so much recall.

A curve begins at the neutral strength. Between two strengths it is read linearly, in recall and in invention alike. Which
part of it is read is decided on other pictures than those that are reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Counts = Int[np.ndarray, "strengths images 3"]
"""Of each caption: different objects that it names, those of them that are there, objects that are there."""
DROPS = (0.0, 0.01, 0.03)
"""Recall that may be lost, of one."""
LEVEL = 0.95


@dataclass(frozen=True)
class Points:
    """recall: objects of the pictures that are named. invented: named ones that are not there (0 where none is named)."""

    recall: Float[np.ndarray, "draws strengths"]
    invented: Float[np.ndarray, "draws strengths"]


def points(counts: Counts, weights: Float[np.ndarray, "draws images"] | None = None) -> Points:
    """Curves of some resamples of the images, or (one draw) of the images themselves."""
    w = np.ones((1, counts.shape[1])) if weights is None else weights
    named, right, shown = np.moveaxis(np.tensordot(w, counts.astype(float), axes=(1, 1)), -1, 0)
    recall = np.divide(right, shown, out=np.zeros_like(right), where=shown > 0)
    return Points(recall, np.divide(named - right, named, out=np.zeros_like(right), where=named > 0))


def resampled(images: int, draws: int, seed: int) -> Float[np.ndarray, "draws images"]:
    """How often each image stands in each bootstrap sample; the same for all curves, which makes them paired."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=draws).astype(float)


def crossings(recall: Float[np.ndarray, "draws strengths"], target: Float[np.ndarray, " draws"]) -> np.ndarray:
    """Places [draws, segments] on the curve, in steps of the grid, at which recall is the target; NaN where it is not."""
    low, high = recall[:, :-1], recall[:, 1:]
    step = high - low
    flat = np.where(low == target[:, None], 0.0, np.nan)
    part = np.where(step == 0, flat, (target[:, None] - low) / np.where(step == 0, 1.0, step))
    return np.where((part >= 0) & (part <= 1), part + np.arange(low.shape[1]), np.nan)


def read(values: Float[np.ndarray, "draws strengths"], place: Float[np.ndarray, " draws"]) -> np.ndarray:
    """Values at places between strengths, linearly."""
    left = np.clip(np.floor(place).astype(int), 0, max(0, values.shape[1] - 2))
    right, part = np.minimum(left + 1, values.shape[1] - 1), place - left
    rows = np.arange(len(values))
    return values[rows, left] * (1 - part) + values[rows, right] * part


@dataclass(frozen=True)
class Place:
    """at: on a curve, in steps of its grid; 0 is the neutral strength. limited: more was not chosen for want of recall."""

    at: float
    limited: bool


def chosen_place(curve: Points, drop: float) -> Place:
    """Where a curve invents least of all places that keep the recall."""
    recall, target = curve.recall, curve.recall[:, 0] - drop
    places = np.concatenate([np.arange(recall.shape[1]), crossings(recall, target)[0]])
    places = np.sort(places[~np.isnan(places)])
    reached = np.array([read(recall, np.array([p]))[0] for p in places])
    invented = np.array([read(curve.invented, np.array([p]))[0] for p in places])
    allowed = reached >= target[0] - 1e-12
    best = int(np.flatnonzero(allowed)[np.argmin(np.round(invented[allowed], 12))])
    return Place(float(places[best]), bool(places[best] > 0 and abs(reached[best] - target[0]) < 1e-12))


def at_recall(curve: Points, place: Place, target: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
    """Invention of a curve that keeps the recall: at the place that was chosen on other pictures, or near it.

    Back from it, while there is less recall than asked; on, while there is more and the place was chosen for want of
    recall. A curve that never loses so much is read at its place.
    """
    start = np.full(len(target), place.at)
    here, found = read(curve.recall, start), crossings(curve.recall, target)
    on = np.where(found >= place.at, found, np.inf).min(1)
    back = np.where(found <= place.at, found, -np.inf).max(1)
    moved = np.where((here > target) & place.limited, on, np.where(here < target, back, start))
    return read(curve.invented, np.where(np.isfinite(moved), moved, start))


@dataclass(frozen=True)
class Compared:
    """One method at one loss of recall, on the reported pictures.

    place: on its curve, chosen on other pictures (0: no strength helps there). strength: that of the curve at the place.
    invented: the method's share of invented objects; base: that of the plain model. baseline: the best trivial baseline's,
    with its name. against_base, against_baseline: difference with its 95 % interval, of the paired bootstrap; beside: the
    same against the method that does the same to all heads alike. kept: the curve never loses that much recall.
    """

    method: str
    drop: float
    place: float
    strength: float
    invented: float
    base: float
    baseline: str
    baseline_invented: float
    against_base: tuple[float, float, float]
    against_baseline: tuple[float, float, float]
    beside: tuple[float, float, float] | None = None
    kept: bool = False

    @property
    def better(self) -> bool:
        """Whether both intervals lie below zero."""
        return self.place > 0 and self.against_base[2] < 0 and self.against_baseline[2] < 0

    @property
    def beats_uniform(self) -> bool:
        """Whether its strengths of each head's own invent less than one for all."""
        return self.place > 0 and self.beside is not None and self.beside[2] < 0


@dataclass(frozen=True)
class Curve:
    """strengths: the neutral one first. choose, report: counts on the pictures that choose, and on the reported ones."""

    name: str
    strengths: tuple[float, ...]
    choose: Counts
    report: Counts
    trivial: bool = False
    beside: str = ""


class Reading:
    """Curves of one kind of picture, read at one loss of recall in every resample."""

    def __init__(self, curves: list[Curve], drop: float, draws: int, seed: int) -> None:
        weights = resampled(curves[0].report.shape[1], draws, seed)
        self.curves, self.drop = {c.name: c for c in curves}, drop
        self.place = {c.name: chosen_place(points(c.choose), drop) for c in curves}
        self.own, self.draws = {}, {}
        for c in curves:
            one, many = points(c.report), points(c.report, weights)
            self.own[c.name] = float(at_recall(one, self.place[c.name], one.recall[:, 0] - drop)[0])
            self.draws[c.name] = at_recall(many, self.place[c.name], many.recall[:, 0] - drop)
        first = curves[0].report
        self.base = float(points(first).invented[0, 0])
        self.base_draws = points(first, weights).invented[:, 0]
        self.trivial = [c.name for c in curves if c.trivial]

    def compared(self, name: str) -> Compared:
        """One method."""
        curve, place = self.curves[name], self.place[name].at
        best = min(self.trivial, key=lambda t: self.own[t])
        lowest = np.min([self.draws[t] for t in self.trivial], axis=0)
        beside = None
        if curve.beside in self.draws:
            other = curve.beside
            beside = _interval(self.own[name] - self.own[other], self.draws[name] - self.draws[other])
        spent = points(curve.report).recall[0]
        return Compared(
            name, self.drop, place, float(np.interp(place, range(len(curve.strengths)), curve.strengths)),
            self.own[name], self.base, best, self.own[best],
            _interval(self.own[name] - self.base, self.draws[name] - self.base_draws),
            _interval(self.own[name] - self.own[best], self.draws[name] - lowest),
            beside, bool(spent.min() > spent[0] - self.drop),
        )  # fmt: skip


def _interval(value: float, draws: Float[np.ndarray, " draws"]) -> tuple[float, float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, float(low), float(high)


def compare(curves: list[Curve], drops: tuple[float, ...] = DROPS, draws: int = 2000, seed: int = 0) -> list[Compared]:
    """Every method at every loss of recall. All curves begin at the same plain captions."""
    out = []
    for drop in drops:
        reading = Reading(curves, drop, draws, seed)
        out += [reading.compared(c.name) for c in curves if not c.trivial]
    return out
