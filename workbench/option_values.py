"""Values that options take in several commands and in the core; needs no torch, so options are checked before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chz

from workbench.casting import LARGEST
from workbench.errors import BadInput, did_you_mean

DTYPES = ("float32", "bfloat16", "float16", "float64")
ABLATIONS = ("zero", "mean", "resample", "uniform")
"""What `mask` puts in a head's place."""
OUTSIDE = ("resample", "mean", "zero")
"""What heads outside a circuit give."""
SINK_RULES = ("corrected", "paper")
RECEIVERS = ("others", "all")
"""Who gets what calibration takes from sinks."""
MISFITS = ("replace", "refuse")
"""What is done with words that are not one token."""
MOST = 10**7
"""Of anything that is counted: tokens of a context, samples, rows. Work on so many ends on no machine."""
MOST_DRAWS = 10**5
"""Of random lists that are each run through a model."""
CALM = ("out", "device", "batch", "memory", "shard", "engine")
"""Options that change no number, in every command that has them."""


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """The value, if it is a known one. Raises BadInput with the nearest."""
    if value not in known:
        raise BadInput(f"{name}={value}: use {', '.join(known)}.{did_you_mean(str(value), known)}")
    return value


def at_least(config: Any, **least: int) -> None:
    """Checks numbers of a config by name; those that are None are not given. Raises BadInput."""
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and value < bound:
            raise BadInput(f"{name}={value}: give at least {bound}")


def at_most(config: Any, most: int = MOST, **other: int) -> None:
    """Checks all whole numbers of a config, but seeds. other: bounds of some by name. Raises BadInput."""
    for name in chz.chz_fields(type(config)):
        value, bound = getattr(config, name), LARGEST if name == "seed" else other.get(name, most)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and number > bound:
                raise BadInput(f"{name}={number}: give at most {bound:,}")


def percentages(name: str, values: Sequence[float]) -> None:
    """Checks that there are some, all from 0 to 100. Raises BadInput."""
    if not values or min(values) < 0 or max(values) > 100:
        raise BadInput(f"{name}={list(values)}: {name} are percentages from 0 to 100")


def either(known: Sequence[str]) -> str:
    """`a, b or c`, for the help of an option."""
    return " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))
