"""Induction: random tokens, then a stretch of them again; what followed it is to come. A contrast to IOI's language."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from workbench.errors import BadInput
from workbench.progress import counting
from workbench.tasks.circuit_prompts import CircuitPrompt, CircuitPrompts, CircuitTask, checked_corruption
from workbench.tasks.spelling import END, Spelling

LENGTH, AGAIN = 16, 3
"""Random tokens of a prompt, all different, and how many of them stand again."""
CORRUPTIONS = ("other-place", "resample")
"""`other-place`: a stretch from elsewhere stands again, so that the foil is asked for. `resample`: new tokens do."""


def induction_prompts(
    tokenizer: Any,
    n: int,
    seed: int = 0,
    corruption: str = "other-place",
    length: int = LENGTH,
    again: int = AGAIN,
    misfits: str = "replace",
    bos: bool | None = None,
) -> CircuitPrompts:
    """n prompts. Answers: what followed the stretch, and what followed the stretch of `other-place`.

    Labels: match and match+1, the last token of the stretch and its successor at their first place; wrong and wrong+1,
    those of the foil; again, the stretch's second place; END. Tokens are words of the vocabulary, each with equal
    chance, so that none is a misfit and `misfits` changes nothing. Raises BadInput where it holds too few, or the length
    has no room for two stretches.
    """
    checked_corruption(corruption, CORRUPTIONS)
    if again < 1 or length < 2 * (again + 1):
        raise BadInput(
            f"length={length}, again={again}: use again of at least 1 and a length of at least 2 × (again + 1)"
        )
    spelling = Spelling(tokenizer, bos)
    pool = _words(tokenizer)
    if len(pool) < length + again:
        raise BadInput(f"length={length}: this vocabulary holds {len(pool)} words, {length + again} are needed")
    rng = np.random.default_rng(seed)
    rows = tuple(_prompt(rng, spelling, pool, corruption, length, again) for _ in counting("prompts drawn", n))
    return CircuitPrompts("induction", rows)


@functools.lru_cache(4)
def _words(tokenizer: Any) -> tuple[int, ...]:
    """Ids of plain words: letters only, at most one space before them."""
    special = set(tokenizer.all_special_ids)
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return tuple(i for i, text in enumerate(texts) if i not in special and text.removeprefix(" ").isalpha())


def _prompt(
    rng: np.random.Generator, spelling: Spelling, pool: tuple[int, ...], corruption: str, length: int, again: int
) -> CircuitPrompt:
    tokens = [int(x) for x in rng.choice(pool, length + again, replace=False)]
    tokens, new = tokens[:length], tokens[length:]
    ends = [int(x) for x in rng.permutation(np.arange(again, length))]  # the stretch's successor
    right = ends[0]
    wrong = next((e for e in ends if abs(e - right) > again), None)
    if wrong is None:  # in the middle of a short prompt nothing is far enough
        right, wrong = again, length - 1
    first = len(spelling.head)
    stretch, other = tokens[right - again : right], tokens[wrong - again : wrong]
    clean = (*spelling.head, *tokens, *stretch)
    corrupted = (*spelling.head, *tokens, *(other if corruption == "other-place" else new))
    marks = {"match": right - 1, "match+1": right, "wrong": wrong - 1, "wrong+1": wrong, END: length + again - 1}
    spans = {label: (at + first, at + first + 1) for label, at in marks.items()}
    spans["again"] = (length + first, length + again + first)
    text = spelling.tokenizer.decode(clean)
    return CircuitPrompt(clean, corrupted, (tokens[right], tokens[wrong]), spans, "induction", text)


TASK = CircuitTask(
    "induction", "random tokens, some again: what followed them", induction_prompts, CORRUPTIONS, ("resample",)
)
