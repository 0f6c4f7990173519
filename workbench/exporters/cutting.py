"""How a ranking is to be cut, as users say it: the options that all formats share which hold a cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from workbench.errors import BadInput
from workbench.heads import HeadScores

WINDOW = {"sink_size": 128, "recent_size": 256}
"""Tokens that DuoAttention's published training runs keep; their evaluation uses 64 + 256."""
THRESHOLD = 0.1
"""The retrieval-head threshold, for scores that name none."""
RULES = ("sparsity", "threshold", "budget", "recall", "gates")


@dataclass(frozen=True)
class Cutting:
    """One rule at most of sparsity, threshold, budget, recall and gates; none: the threshold of the scores.

    sparsity: share of streaming heads. budget: share of key-value entries kept at `context` tokens, sinks and windows
    included. recall: what needles outside the window must still be told, by the lower 95 % bound. gates: no cut, the
    scores themselves. unscored: "refuse", or "full" to keep heads without a score full. sink_size, recent_size: tokens
    of streaming heads. ranks: tensor-parallel ranks; balance: give each equally many full heads. query_heads: query
    heads a layer, where scores are per key-value head and a format names query heads.
    """

    sparsity: float | None = None
    threshold: float | None = None
    budget: float | None = None
    recall: float | None = None
    gates: bool = False
    unscored: str = "refuse"
    sink_size: int = WINDOW["sink_size"]
    recent_size: int = WINDOW["recent_size"]
    context: int | None = None
    ranks: int = 1
    balance: bool = False
    query_heads: int | None = None

    @classmethod
    def of(cls, scores: HeadScores, options: Mapping[str, Any]) -> Self:
        """Checked options; window sizes that are not given are those of the scores, if they name any."""
        own = {name: int(scores.parameters.get(name, size)) for name, size in WINDOW.items()}
        how = cls(**{**own, **{name: value for name, value in options.items() if value is not None}})
        how.check()
        return how

    @property
    def window(self) -> int:
        """Tokens that a streaming head keeps."""
        return self.sink_size + self.recent_size

    def rule(self) -> str:
        """Which rule it is."""
        return next(iter(self._given()), "threshold")

    def _given(self) -> list[str]:
        """Rules that are asked for; a share of 0 is one."""
        return [name for name in RULES if getattr(self, name) is not None and getattr(self, name) is not False]

    def line(self, scores: HeadScores) -> float:
        """The score from which a head counts as a retrieval head."""
        named = scores.parameters.get("threshold")
        return float(THRESHOLD if named is None else named) if self.threshold is None else self.threshold

    def check(self) -> None:
        """Raise BadInput for values that cannot be meant."""
        if len(given := self._given()) > 1:
            raise BadInput(f"{' and '.join(f'{name}=' for name in given)} are different ways to cut: give one")
        shares = {"sparsity": "a share of streaming heads", "budget": "a share of the cache", "recall": "a recall"}
        for name, what in shares.items():
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise BadInput(f"{name}={value:g} is {what}: give 0 to 1")
        for name, least in (("sink_size", 0), ("recent_size", 1), ("context", 1), ("ranks", 1), ("query_heads", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise BadInput(f"{name}={value}: give a number from {least}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise BadInput(f"threshold={self.threshold}: give a number")
        if self.budget is not None and self.context is None:
            raise BadInput(f"budget={self.budget:g} is a share of the cache at some length: give context=TOKENS")
        if self.unscored not in ("refuse", "full"):
            raise BadInput(f"unscored={self.unscored} is unknown: use refuse or full")
        if self.balance and (self.ranks < 2 or self.gates):
            raise BadInput("balance=true spreads full heads over ranks: give ranks= (at least 2), and a cut")
