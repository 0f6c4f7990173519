"""One model in the atlas: its scores, distance profiles, pictures of prompts, and the tokens that its heads read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from workbench.heads import HeadScores, ModelIdentity
from workbench_analyses.atlas_parts.estimates import Estimate
from workbench_analyses.atlas_parts.measures import Measure
from workbench_analyses.atlas_parts.patterns import RAW

WORDS = 6
"""Tokens that a head's card names."""


@dataclass(frozen=True, eq=False)
class Score:
    """A measure in one version."""

    measure: Measure
    version: str
    estimate: Estimate

    @property
    def key(self) -> str:
        """Its name, with the version where it is not the whole pattern's."""
        return self.measure.name if self.version == RAW else f"{self.measure.name}/{self.version}"

    @property
    def title(self) -> str:
        """Its title for people."""
        return self.measure.title if self.version == RAW else f"{self.measure.title}, {self.version}"


@dataclass(frozen=True, eq=False)
class Picture:
    """A prompt and the pattern of every head on it. levels: weights as 0 … LEVELS - 1, logarithmic."""

    name: str
    words: tuple[str, ...]
    spans: Mapping[str, tuple[int, int]]
    levels: UInt8[np.ndarray, "layers heads n n"]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Top keys of corpus texts, for HeadVis' format. keys, weights: of each row, the largest first."""

    words: tuple[tuple[str, ...], ...]
    keys: Int[np.ndarray, "texts layers heads n k"]
    weights: Float[np.ndarray, "texts layers heads n k"]


@dataclass(frozen=True, eq=False)
class Raised:
    """Tokens whose logits a head raises most when it reads each of its first tokens in `Side.reads`.

    words: the tokens, each once. places: in them. ids: the same in the vocabulary.
    """

    words: tuple[str, ...]
    places: Int[np.ndarray, "layers heads w k"]
    ids: Int[np.ndarray, "layers heads w k"]


@dataclass(frozen=True, eq=False)
class Side:
    """scores: in the order of the measures. profiles: mass by distance, bins 0, 1, 2–3, 4–7, …, by version.

    reads: of each head, the places in `words` of the tokens that get most of its attention without sinks, and what share
    of it they get. raised: what reading them writes, where that can be said. left_out: parts that were not asked, and why.
    notes: what the reader should know of the corpus.
    """

    model: ModelIdentity
    label: str
    kv_heads: int
    skipped: tuple[int, ...]
    scores: tuple[Score, ...]
    profiles: Mapping[str, Float[np.ndarray, "layers heads bins"]]
    words: tuple[str, ...]
    reads: Int[np.ndarray, "layers heads k"]
    shares: Float[np.ndarray, "layers heads k"]
    raised: Raised | None
    pictures: tuple[Picture, ...]
    sequences: Sequences | None
    left_out: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads."""
        return self.scores[0].estimate.values.shape  # pyright: ignore[reportReturnType]

    def score(self, key: str) -> Score:
        """A score by its key. Raises KeyError."""
        return {s.key: s for s in self.scores}[key]

    def head_scores(self, key: str, parameters: Mapping[str, Any] | None = None) -> HeadScores:
        """A score as the currency of the house."""
        one = self.score(key)
        about = {**(parameters or {}), "version": one.version, "n": one.estimate.n}
        return HeadScores(
            one.estimate.values, f"atlas/{one.key}", about, self.model, kv_heads=self.kv_heads,
            skipped_layers=self.skipped,
        )  # fmt: skip


def most_read(
    mass: Float[np.ndarray, "layers heads words"], k: int = WORDS
) -> tuple[Int[np.ndarray, "layers heads k"], Float[np.ndarray, "layers heads k"]]:
    """Places of the tokens with most mass, and their shares of all mass; 0 where a head reads nothing."""
    order = np.argsort(-np.nan_to_num(mass), axis=-1, kind="stable")[..., :k]
    total = mass.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(total > 0, np.take_along_axis(mass, order, -1) / total, 0.0)
    return order, shares


def skipped_layers(layers: int, known: Sequence[int]) -> tuple[int, ...]:
    """Layers without softmax attention."""
    return tuple(i for i in range(layers) if i not in known)
