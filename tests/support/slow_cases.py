"""Many cases of one statement: a few run always, the others with `pytest -m slow`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_but(cases: Iterable[Any], quick: Callable[[Any], bool]) -> list[Any]:
    """Parameters of a test: cases that are not quick are marked slow. Tuples are several arguments."""
    each = [case if isinstance(case, tuple) else (case,) for case in cases]
    known = {True: (), False: (pytest.mark.slow,)}
    return [pytest.param(*values, marks=known[quick(values if len(values) > 1 else values[0])]) for values in each]
