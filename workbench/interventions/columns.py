"""Positions of an edit: columns of the tokens as passed, the same for all batch rows or a list with one entry a row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from workbench.errors import BadInput

Columns = tuple[tuple[int, ...], ...]
"""One entry for all batch rows, or one per batch row."""
Given = Iterable[int] | list[Iterable[int]]
"""What users write: a tuple or a range of columns (`range(12, 588)` is a span), or a list of those per batch row."""


def columns(given: Given, name: str = "keys") -> Columns:
    """Columns as an edit holds them, sorted and without repetitions. Raises BadInput."""
    return tuple(tuple(sorted(set(row))) for row in entries(given, name))


def entries(given: Any, name: str) -> Columns:
    """The same in the order given."""
    per_row = isinstance(given, list) and len(given) > 0 and all(isinstance(x, Iterable) for x in given)
    out = tuple(_row(row, name) for row in given) if per_row else (_row(given, name),)
    if not all(out):
        raise BadInput(f"{name}: no positions given")
    return out


def _row(given: Any, name: str) -> tuple[int, ...]:
    try:
        return tuple(whole(x) for x in given)
    except (TypeError, ValueError):
        raise BadInput(
            f"{name}={given}: give a tuple or a range of columns for all batch rows, or a list of those, one a row"
        ) from None


def whole(x: Any) -> int:
    """A number that is an integer. Raises TypeError."""
    if isinstance(x, bool | float) or int(x) != x:
        raise TypeError
    return int(x)


def at_row(held: tuple[Any, ...], row: int, batch: int, name: str) -> Any:
    """What holds in a batch row."""
    if len(held) == 1:
        return held[0]
    if len(held) != batch:
        raise BadInput(f"{name}: {len(held)} entries for {batch} batch rows: give one for all, or one a row")
    return held[row]


def number(name: str, value: float, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number in a range. Raises BadInput."""
    value = float(value)
    if not (math.isfinite(value) and least <= value <= most):
        known = [f"≥ {least:g}"] * math.isfinite(least) + [f"≤ {most:g}"] * math.isfinite(most)
        raise BadInput(f"{name}={value:g}: must be finite{''.join(f' and {k}' for k in known)}")
    return value
