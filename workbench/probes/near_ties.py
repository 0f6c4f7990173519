"""Near ties: choices of the largest that other rounding (batch, threads, backend) may decide otherwise, counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

TIE = 1e-5
"""Margin between two candidates, in attention or in logits, below which a choice counts as a near tie."""


@dataclass(frozen=True)
class NearTies:
    """How close choices were; the fields are columns of samples.parquet.

    arg_maxes: steps × heads in which the most attended key was sought. near_ties: those that had a second key less than
    TIE behind. ties_at_stake: of these, those where one of the near keys counts as a copy, so that a score could change;
    where more keys are near than are looked at, also those where the answer weighs as much as the largest key.
    near_tokens: decoded tokens whose logit was less than TIE ahead.
    """

    arg_maxes: int = 0
    near_ties: int = 0
    ties_at_stake: int = 0
    near_tokens: int = 0

    @classmethod
    def of(cls, samples: Iterable[Mapping[str, Any]]) -> Self:
        """Of all samples of a table."""
        rows = list(samples)
        return cls(**{f.name: sum(int(row[f.name]) for row in rows) for f in fields(cls)})

    def __str__(self) -> str:
        """In a line."""
        return (
            f"{self.near_ties:,} of {self.arg_maxes:,} arg-maxes of heads, {self.ties_at_stake:,} where a copy is at stake; "
            f"{self.near_tokens:,} tokens (margin below {TIE:g})"
        )
