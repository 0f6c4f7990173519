"""Greedy decoding from the cut cache: a guess is checked by one forward, and mended where it first goes wrong.

The guess is what the full cache says, so a cache that still says the same needs one forward for the whole answer. Each
further forward settles at least one more token of every answer: the result is that of one token at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from workbench.policies.scheme import Scheme
from workbench.simulation.cases import Batch, Case
from workbench.simulation.decoding import Packs, decode
from workbench.simulation.reading_prompts import Prompts, told


def greedy(
    model: Any, prompts: Prompts, scheme: Scheme, packs: Packs, logits: Sequence[Tensor], ends: set[int]
) -> list[list[int]]:
    """Continuation of every prompt, `case.new_tokens` tokens at most, up to a token that ends a text.

    packs, logits: what decoding the cases of `prompts` gave, [told, vocabulary] each: the first guess is checked.
    """
    cases = list(prompts.batch.cases)
    guesses = [list(case.tokens[-case.scored :]) for case in cases]
    settled = [0] * len(cases)
    while True:
        for i, own in enumerate(logits):
            said = [*guesses[i][: settled[i]], *own.argmax(-1).tolist()[settled[i] :]]
            guesses[i], settled[i] = _mended(guesses[i], said, cases[i].new_tokens, ends)
        if all(done >= len(guess) for done, guess in zip(settled, guesses, strict=True)):
            return guesses
        asked = [_guessed(case, guess) for case, guess in zip(cases, guesses, strict=True)]
        again = replace(prompts, batch=Batch.of(asked, prompts.batch.tokens.device))
        logits = told(decode(model, again, scheme, packs)[0], asked)


def _mended(guess: list[int], said: list[int], most: int, ends: set[int]) -> tuple[list[int], int]:
    """The next guess, and how many of its tokens are settled. said: the arg-max behind each token before it."""
    right = next((i for i, (a, b) in enumerate(zip(guess, said, strict=True)) if a != b), len(guess))
    sure = said[: right + 1]
    stop = next((i + 1 for i, token in enumerate(sure) if token in ends), None)
    if stop is not None:
        return sure[:stop], stop
    rest = said[right + 1 :]
    fill = [sure[-1]] * (most - len(sure) - len(rest))  # where the guess was shorter than an answer may be
    return [*sure, *rest, *fill][:most], min(len(sure), most)


def _guessed(case: Case, guess: list[int]) -> Case:
    tokens = (*case.tokens[: len(case.tokens) - case.scored], *guess)
    return replace(case, tokens=tokens, scored=len(guess))
