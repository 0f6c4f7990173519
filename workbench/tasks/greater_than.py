"""Greater-than: a span of years begun in 17YY ends in a later year. A contrast to tasks that copy.

After Hanna et al. 2023 (arXiv 2305.00586); the corrupted prompt begins in 1701, so that nearly every year is later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.progress import counting
from workbench.tasks.circuit_prompts import CircuitPrompt, CircuitPrompts, CircuitTask, checked_corruption
from workbench.tasks.spelling import Spelling, filled, fitting

NOUNS = tuple(
    "war siege reign voyage campaign drought famine project treaty alliance expedition dispute debate exhibition "
    "journey marriage partnership rebellion revolt strike tour trial".split()
)
CENTURIES = tuple(str(c) for c in range(11, 18))
_TEMPLATE = "The {noun} lasted from the year {century}{year} to the year {century}"
CORRUPTIONS = ("01",)


def greater_than_prompts(
    tokenizer: Any,
    n: int,
    seed: int = 0,
    corruption: str = "01",
    misfits: str = "replace",
    bos: bool | None = None,
) -> CircuitPrompts:
    """n prompts. Answers: a pair of digits above those of the first year, and one not above; both as one token.

    Labels: noun, century1, year, century2, END. misfits: see `ioi_prompts`; here years and nouns. Raises BadInput for a
    tokenizer that does not part a year into its century and its last two digits.
    """
    checked_corruption(corruption, CORRUPTIONS)
    spelling = Spelling(tokenizer, bos)
    nouns, coarse = fitting("nouns", NOUNS, spelling.fits, misfits, 1)
    pairs = [f"{c}{y:02d}" for c in CENTURIES for y in range(100)]
    years, bad = fitting("years (century and last two digits)", pairs, lambda y: _parted(spelling, y), misfits, 1)
    known = {c: [y[2:] for y in years if y[:2] == c] for c in CENTURIES}
    usable = [c for c in CENTURIES if "01" in known[c] and any(_sides(known[c], y) for y in known[c])]
    usable, _ = fitting("centuries with years enough", CENTURIES, lambda c: c in usable, "replace", 1)
    rng = np.random.default_rng(seed)
    rows = tuple(_prompt(rng, spelling, nouns, known, usable) for _ in counting("prompts drawn", n))
    return CircuitPrompts("greater-than", rows, (*coarse, *bad))


def _parted(spelling: Spelling, year: str) -> bool:
    """Whether a year is its century and two digits, one token each."""
    values = {"noun": "war", "century": year[:2], "year": year[2:]}
    try:
        text, places = filled(_TEMPLATE, values)
        _, spans = spelling.spelled(text, places)
        spelling.following(text, year[2:])
    except ValueError:
        return False
    return spelling.known(text) and all(b - a == 1 for label, (a, b) in spans.items() if label != "noun")


def _sides(years: list[str], year: str) -> bool:
    """Whether some year is later, and some, 01 aside, is not."""
    return any(y > year for y in years) and any("01" < y <= year for y in years)


def _prompt(
    rng: np.random.Generator, spelling: Spelling, nouns: list[str], known: dict[str, list[str]], centuries: list[str]
) -> CircuitPrompt:
    century = str(rng.choice(centuries))
    years = known[century]
    year = str(rng.choice([y for y in years if _sides(years, y) and y > "01"]))
    later, earlier = [y for y in years if y > year], [y for y in years if "01" < y <= year]
    clean = {"noun": str(rng.choice(nouns)), "century": century, "year": year}
    answers = (str(rng.choice(later)), str(rng.choice(earlier)))
    return spelling.prompt(_TEMPLATE, clean, {**clean, "year": "01"}, answers, "greater-than")


TASK = CircuitTask(
    "greater-than", "a span of years ends later than it began", greater_than_prompts, CORRUPTIONS, ("01",)
)
