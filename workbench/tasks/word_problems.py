"""Small word problems, each asked in two ways: reason step by step, or answer at once.

Every prompt shows examples of its own way before the problem. The numbers of the steps stand in the problem, so a model
that reasons reads them there again; one that answers at once has no step at which it would (Wu et al. 2024, §4.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workbench.tasks.assembling import Assembler

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry")
THINGS = ("apples", "books", "coins", "pens", "cards", "stamps")
EXAMPLES = 3
MARK = "answer is"
STEPS = {"thought": 80, "direct": 10}
"""Most tokens of a response in each way."""


@dataclass(frozen=True)
class Problem:
    """Token ids of the two prompts, and the word that answers both."""

    thought: tuple[int, ...]
    direct: tuple[int, ...]
    answer: str


@dataclass(frozen=True)
class _Story:
    text: str
    thought: str
    answer: int


def problems(assembler: Assembler, n: int, seed: int) -> list[Problem] | None:
    """n problems with examples of their own; None where the vocabulary lacks words that they are made of."""
    out, stories = [], _stories(np.random.default_rng(seed))
    for _ in range(n):
        shown, asked = [next(stories) for _ in range(EXAMPLES)], next(stories)
        thought, direct = (_prompt(shown, asked, how) for how in ("thought", "direct"))
        if not assembler.known(f"{thought} {asked.thought}"):
            return None
        out.append(Problem(_ids(assembler, thought), _ids(assembler, direct), str(asked.answer)))
    return out


def _ids(assembler: Assembler, text: str) -> tuple[int, ...]:
    return (*assembler.head, *assembler.piece(text), *assembler.tail)


def answer_of(response: str, way: str) -> str | None:
    """The word behind the first `answer is`; answered at once, it may stand without these words. None: no answer."""
    found = re.search(rf"{MARK}[\s:]*(\S+)", response) or (re.match(r"\s*(\S+)", response) if way == "direct" else None)
    return None if found is None else found[1].rstrip(".,;!") or found[1]


def _stories(rng: np.random.Generator) -> Iterator[_Story]:
    while True:
        (who, other), thing = rng.choice(NAMES, 2, replace=False), rng.choice(THINGS)
        first, more = (int(x) for x in rng.integers(3, 20, 2))
        less = int(rng.integers(2, first + more - 1))
        text = (
            f"{who} has {first} {thing}. {who} finds {more} more and gives {less} to {other}. "
            f"How many {thing} does {who} have now?"
        )
        both, left = first + more, first + more - less
        thought = f"{who} starts with {first} {thing}. {first} + {more} = {both}. {both} - {less} = {left}."
        yield _Story(text, thought, left)


def _prompt(shown: list[_Story], asked: _Story, how: str) -> str:
    examples = [f"Question: {s.text}\nAnswer: {f'{s.thought} ' if how == 'thought' else ''}The {MARK} {s.answer}.\n\n"
                for s in shown]  # fmt: skip
    begun = "" if how == "thought" else f" The {MARK}"
    return f"{''.join(examples)}Question: {asked.text}\nAnswer:{begun}"
