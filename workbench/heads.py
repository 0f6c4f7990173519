"""The currency of the house: a score for every head of a model, and lists of heads drawn from it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from workbench import bootstrap
from workbench.errors import BadInput
from workbench.head_sets import Head, HeadSet
from workbench.score_checks import check_fit

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.comparison import Comparison

__all__ = ["Head", "HeadScores", "HeadSet", "ModelIdentity"]

CLAIM = 0.9  # `stability` states what agreement holds in this share of the resamples


@dataclass(frozen=True)
class ModelIdentity:
    """Which model was measured. weights: the fingerprint that tells a base model from its finetune."""

    name: str
    config_hash: str
    weights: str


@dataclass(frozen=True, eq=False, repr=False)
class HeadScores:
    """A score per head, with all that is needed to judge it.

    values: NaN = never scored, which is not 0. per_sample: where it exists, `values` is its mean over samples.
    model: None = unverified (imported). groups: one name per sample (its needle); resampling draws groups.
    kv_heads: heads of the key-value cache; equal to the number of heads where the scores are at that level.
    tiebreak: a second score for equal heads. skipped_layers: layers without softmax attention.
    clip: the range that readers of this format clip to; ranks and thresholds use clipped values.
    Raises BadInput where shapes disagree, a value is infinite or is not the mean of its samples.
    """

    values: Float[np.ndarray, "layers heads"]
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: ModelIdentity | None = None
    per_sample: Float[np.ndarray, "samples layers heads"] | None = None
    groups: tuple[str, ...] | None = None
    kv_heads: int | None = None
    tiebreak: Float[np.ndarray, "layers heads"] | None = None
    skipped_layers: tuple[int, ...] = ()
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Own the arrays, read-only, and check that everything fits."""
        for name in ("values", "per_sample", "tiebreak"):
            if (given := getattr(self, name)) is not None:
                array = np.array(given, dtype=np.float64)
                array.setflags(write=False)
                object.__setattr__(self, name, array)
        object.__setattr__(self, "parameters", dict(self.parameters))
        object.__setattr__(self, "groups", None if self.groups is None else tuple(map(str, self.groups)))
        object.__setattr__(self, "skipped_layers", tuple(int(layer) for layer in self.skipped_layers))
        check_fit(self)

    @classmethod
    def from_samples(cls, per_sample: Float[np.ndarray, "samples layers heads"], method: str, **fields: Any) -> Self:
        """Scores that are the mean over samples; no sample: NaN everywhere."""
        samples = np.asarray(per_sample, dtype=np.float64)
        values = samples.mean(0) if len(samples) else np.full(samples.shape[1:], np.nan)
        return cls(values, method, per_sample=samples, **fields)

    def __repr__(self) -> str:
        """The one-line description."""
        return f"HeadScores({self.describe()})"

    def _repr_html_(self) -> str:
        """The notebook output: a small head map and its ten highest heads."""
        from workbench.views.notebook import mini_html

        low, high = self.interval()
        return mini_html(self.values, self.method, low=low, high=high, kv_heads=self.kv_heads, caption=self.describe())

    @property
    def n(self) -> int:
        """Samples; 0 where only the scores are known."""
        return 0 if self.per_sample is None else len(self.per_sample)

    @property
    def n_groups(self) -> int:
        """Distinct groups; without groups every sample is its own."""
        return self.n if self.groups is None else len(set(self.groups))

    @property
    def n_layers(self) -> int:
        """Layers, those without scores included."""
        return self.values.shape[0]

    @property
    def n_heads(self) -> int:
        """Heads per layer."""
        return self.values.shape[1]

    @property
    def verified(self) -> bool:
        """Whether it is known which model was measured."""
        return self.model is not None

    @property
    def scored(self) -> Bool[np.ndarray, "layers heads"]:
        """Heads that have a score."""
        return ~np.isnan(self.values)

    @property
    def ranking(self) -> Float[np.ndarray, "layers heads"]:
        """What ranks and thresholds look at: clipped where the format says so, equal where it counts as equal."""
        return bootstrap.settled(self.values if self.clip is None else np.clip(self.values, *self.clip))

    def interval(
        self, level: float = 0.95, draws: int = 1000, seed: int = 0
    ) -> tuple[Float[np.ndarray, "layers heads"], Float[np.ndarray, "layers heads"]]:
        """Percentile bootstrap over groups: low and high; NaN with fewer than two groups or without a score."""
        if self.per_sample is None:
            return np.full(self.values.shape, np.nan), np.full(self.values.shape, np.nan)
        flat = self.per_sample.reshape(self.n, -1)
        bounds = bootstrap.percentile_interval(flat, self.groups, level, draws, seed)
        low, high = (np.where(self.scored, bound.reshape(self.values.shape), np.nan) for bound in bounds)
        return low, high

    def rank(self) -> list[Head]:
        """Scored heads, best first; ties by `tiebreak` (higher first), then by (layer, head)."""
        return self._heads(self._order(descending=True))

    def top(self, k: int) -> HeadSet:
        """The k best heads, or all scored heads where there are fewer."""
        return self._cut(self._order(descending=True), k)

    def bottom(self, k: int) -> HeadSet:
        """The k lowest heads, lowest first; ties by `tiebreak` (lower first), then by (layer, head)."""
        return self._cut(self._order(descending=False), k)

    def at_least(self, threshold: float) -> HeadSet:
        """Heads that reach the threshold, best first."""
        reach = int((self.ranking >= bootstrap.settled(threshold)).sum())
        return HeadSet(tuple(self.rank()[:reach]))

    def always_on(self) -> HeadSet:
        """Heads that score in every sample, best first. Raises BadInput without per-sample scores."""
        on = (self._samples() > 0).all(0) & self.scored & (self.n > 0)
        return HeadSet(tuple(head for head in self.rank() if on[head]))

    def never_on(self) -> HeadSet:
        """Heads that score in no sample, in the order of rank. Raises BadInput without per-sample scores."""
        off = (self._samples() <= 0).all(0) & self.scored
        return HeadSet(tuple(head for head in self.rank() if off[head]))

    def without_empty_samples(self) -> HeadScores:
        """The same without samples in which no head scored: there the needle was not found, not the head at fault."""
        keep = [bool((sample > 0).any()) for sample in self._samples()]
        groups = None if self.groups is None else tuple(itertools.compress(self.groups, keep))
        samples = self._samples()[keep]
        values = np.where(self.scored, samples.mean(0), np.nan) if len(samples) else np.full_like(self.values, np.nan)
        return replace(self, values=values, per_sample=samples, groups=groups)

    def stability(self, threshold: float, draws: int = 200, seed: int = 0) -> tuple[float, float]:
        """Expected Jaccard of the list {score >= threshold} with that of a resample of the groups: (mean, low).

        low: reached in 90 % of the resamples. NaN with fewer than two groups. Raises BadInput without samples.
        """
        flat = self._samples()[:, self.scored]
        agreement = bootstrap.list_agreement(flat, self.groups, threshold, draws, seed)
        if agreement is None:
            return float("nan"), float("nan")
        return float(agreement.mean()), float(np.quantile(agreement, 1 - CLAIM))

    def to_kv_heads(self, reduce: Literal["max", "mean"] = "max") -> HeadScores:
        """Scores per key-value head: the best query head of each group (or their mean), unscored ones left out.

        With max the samples, and so the interval, are those of the best query head. Raises BadInput if
        `kv_heads` is unknown.
        """
        from workbench.kv_groups import to_kv_heads

        return to_kv_heads(self, reduce)

    def compare(
        self, other: HeadScores, k: int = 20, threshold: float = 0.1, sparsity: float | None = None
    ) -> Comparison:
        """Agreement with other scores; see `workbench.comparison.compare`."""
        from workbench.comparison import compare

        return compare(self, other, k=k, threshold=threshold, sparsity=sparsity)

    def to_frame(self) -> DataFrame:
        """One row per head: layer, head, kv_head, score, low, high, n, rank (from 1; missing where not scored)."""
        from workbench.scores_record import to_frame

        return to_frame(self)

    def to_json(self) -> dict[str, Any]:
        """Everything, in JSON's types; NaN as null."""
        from workbench.scores_record import to_json

        return to_json(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> HeadScores:
        """What `to_json` gave. Raises BadInput on anything else."""
        from workbench.scores_record import from_json

        return from_json(record)

    def describe(self) -> str:
        """One line: method, size, samples, best head, what is missing."""
        parts = [f"{self.method}: {self.n_layers} × {self.n_heads} heads"]
        if self.per_sample is not None:
            parts.append(f"{self.n} samples" + (f" in {self.n_groups} groups" if self.groups is not None else ""))
        best = self.rank()[:1]
        parts += [f"best {head} {self.values[head]:.3f}" for head in best] or ["no head scored"]
        if best and (missing := int((~self.scored).sum())):
            parts.append(f"{missing} heads not scored")
        parts.append(f"model {self.model.name}" if self.model else "model unverified")
        return ", ".join(parts)

    def _samples(self) -> Float[np.ndarray, "samples layers heads"]:
        if self.per_sample is not None:
            return self.per_sample
        if self.scored.any():
            raise BadInput(f"{self.method} scores hold no per-sample scores, which this needs")
        return np.empty((0, *self.values.shape))

    def _keys(self) -> Float[np.ndarray, "heads 2"]:
        tie = np.zeros(self.values.size) if self.tiebreak is None else bootstrap.settled(self.tiebreak).ravel()
        return np.stack([self.ranking.ravel(), np.where(np.isnan(tie), -np.inf, tie)], axis=1)

    def _order(self, descending: bool) -> Int[np.ndarray, " scored"]:
        keys = self._keys() * (-1 if descending else 1)
        order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
        return order[self.scored.ravel()[order]]

    def _heads(self, flat: Iterable[int]) -> list[Head]:
        return [Head(*divmod(int(index), self.n_heads)) for index in flat]

    def _cut(self, order: Int[np.ndarray, " scored"], k: int) -> HeadSet:
        if k < 0:
            raise BadInput(f"cannot list {k} heads: give a number from 0")
        chosen, keys = order[:k], self._keys()
        ambiguous = 0 if not len(chosen) else int((keys[order[k:]] == keys[chosen[-1]]).all(1).sum())
        return HeadSet(tuple(self._heads(chosen)), ambiguous)
