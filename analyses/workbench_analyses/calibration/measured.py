"""What a calibration measures: each head alone with its tests, a list that was given, lists on held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Int

from workbench.controls import Heads
from workbench.paired import discordant, least_discordant, mcnemar_p, sign_flip_p


@dataclass(frozen=True, eq=False)
class Alone:
    """Every head calibrated alone, on the samples that select; arrays in the order of `heads`.

    margin: log-probability of the right choice less that of the best other, without edits [n]. change: what calibrating
    the head adds to it [heads, n]. eligible: (head, sample) pairs with a sink, of how many. parked: share of samples in
    which the head has a sink. p, q: sign flips of the change, Benjamini–Hochberg over all heads. mended, spoiled: samples
    that become right, wrong; exact, exact_q: McNemar's test of them.
    """

    heads: Heads
    margin: Float[np.ndarray, " n"]
    change: Float[np.ndarray, "heads n"]
    eligible: tuple[int, int]
    parked: Float[np.ndarray, " heads"]
    p: Float[np.ndarray, " heads"]
    q: Float[np.ndarray, " heads"]
    mended: Int[np.ndarray, " heads"]
    spoiled: Int[np.ndarray, " heads"]
    exact: Float[np.ndarray, " heads"]
    exact_q: Float[np.ndarray, " heads"]
    level: float

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.margin)

    @property
    def gain(self) -> Float[np.ndarray, " heads"]:
        """Mean change of the margin in nats."""
        return self.change.mean(1)

    @property
    def helpful(self) -> Heads:
        """Heads whose calibration raises the margin, after correction."""
        return tuple(h for h, q, g in zip(self.heads, self.q, self.gain, strict=True) if q <= self.level and g > 0)

    @property
    def harmful(self) -> Heads:
        """Heads whose calibration lowers it."""
        return tuple(h for h, q, g in zip(self.heads, self.q, self.gain, strict=True) if q <= self.level and g < 0)

    @property
    def power(self) -> str:
        """What this many samples and heads can show by accuracy alone."""
        least = least_discordant(len(self.heads), self.level)
        return (
            f"among {len(self.heads)} heads accuracy shows an effect from {least} one-sided discordant samples on, "
            f"{least / self.n:+.1%} at n = {self.n}; the margin is the primary outcome"
        )


@dataclass(frozen=True, eq=False)
class Given:
    """A list that is judged, not selected. source: where it is from. heads: it. tried: all heads of the layers looked at.

    parked: share of the held-out prompts in which each head of `tried` has a sink. eligible: (head, sample) pairs of the
    list with a sink, of how many.
    """

    source: str
    heads: Heads
    tried: Heads
    parked: Float[np.ndarray, " tried"]
    eligible: tuple[int, int]


@dataclass(frozen=True)
class Judged:
    """One list on the held-out samples, against no edit. gain: of the mean margin, in nats; p: sign flips."""

    accuracy: float
    gain: float
    p: float
    mended: int
    spoiled: int
    exact: float

    @classmethod
    def of(cls, base: np.ndarray, margin: np.ndarray, seed: int) -> Self:
        """From the margins of the same samples without and with the list."""
        mended, spoiled = discordant(base > 0, (margin > 0)[None])
        p, exact = sign_flip_p((margin - base)[None], seed), mcnemar_p(mended, spoiled)
        return cls(
            float((margin > 0).mean()), float((margin - base).mean()), float(p[0]), int(mended[0]), int(spoiled[0]),
            float(exact[0]),
        )  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """The held-out half: no edit, the chosen list, its random controls, all heads tried.

    p: share of control lists that gain as much as the chosen one, at least 1 / (1 + draws); None without a control.
    """

    accuracy: float
    n: int
    chosen: Judged | None
    controls: Sequence[Judged]
    enumerated: bool
    p: float | None
    every: Judged
