"""Training documents of the `llama` reference model: repeats, needles with questions, dictionaries, prose.

A document is a list of (ids, class) pieces. The class of a token says what its loss weighs: random text has nothing to
learn the first time and everything the second time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.reference_models.recipes import grammar as g

TEMPLATE, PROSE, STATED, ANSWER, RANDOM, REPEATED, FIRST, PADDING = range(8)
LOSS_WEIGHT = (0.1, 0.5, 0.1, 2.0, 0.02, 1.0, 6.0, 0.0)
"""Loss weight by token class; FIRST, the first token of an answer, is all that template matching cannot give."""

Piece = tuple[np.ndarray, int]


@dataclass(frozen=True)
class Mix:
    """What a batch of rows is drawn from; the rest is prose."""

    repeat: float
    needles: float
    dictionary: float
    count: tuple[int, int]  # needles in a row
    length: tuple[int, int]  # tokens in a needle's value


@functools.cache
def _pools() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids of names, symbols, rare words and all content words."""
    words = (g.NAMES, g.PLACES, g.NOUNS, g.ADJECTIVES, g.VERBS, g.RARE, g.SYMBOLS)
    kinds = [g.ids(" ".join(w)) for w in words]
    return kinds[0], kinds[6], kinds[5], np.concatenate(kinds)


@functools.cache
def _sentences(seed: int = 11, n: int = 20_000) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [g.ids(s) for s in g.prose(rng, n)]


def _prose(rng: np.random.Generator, tokens: int) -> list[Piece]:
    out: list[Piece] = []
    pool, n = _sentences(), 0
    while n < tokens:
        out.append((pool[rng.integers(len(pool))], PROSE))
        n += len(out[-1][0])
    return out


def value(rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    """A needle's value: symbols, rare words or anything."""
    _, symbols, rare, anything = _pools()
    u = rng.random()
    pool = symbols if u < 0.3 else rare if u < 0.6 else anything
    return rng.choice(pool, rng.integers(low, high + 1))


def needles(rng: np.random.Generator, tokens: int, n: int, asked: int, length: tuple[int, int]) -> list[Piece]:
    """n statements at random depths of prose, then a question for each of `asked` of them."""
    names = rng.choice(_pools()[0], n, replace=False)
    values = [value(rng, *length) for _ in names]
    statement, question = g.STATEMENT.split(" {value}")[0], g.QUESTION
    stated = [
        (np.concatenate([g.ids(statement.format(name=g.VOCABULARY[w])), v, [g.INDEX["."]]]), STATED)
        for w, v in zip(names, values, strict=True)
    ]
    tail: list[Piece] = []
    for i in rng.choice(n, asked, replace=False):
        tail.append((g.ids(question.format(name=g.VOCABULARY[names[i]])), TEMPLATE))
        tail += [(values[i][:1], FIRST), (values[i][1:], ANSWER), (np.array([g.INDEX["."]]), PROSE)]
    room = tokens - 1 - sum(len(p) for p, _ in stated + tail)
    body = _prose(rng, max(0, room))
    while body and sum(len(p) for p, _ in body) > room:
        body.pop()
    for piece in stated:
        body.insert(int(rng.integers(len(body) + 1)), piece)
    return [(np.array([g.BOS]), TEMPLATE), *body, *tail]


def _needle_row(rng: np.random.Generator, tokens: int, mix: Mix) -> list[Piece]:
    n = int(rng.integers(mix.count[0], mix.count[1] + 1)) if rng.random() < 0.75 else 1
    while n > 1 and n * (22 + mix.length[0] + mix.length[1]) > tokens - 4:
        n -= 1
    while True:
        asked = n if rng.random() < 0.7 else int(rng.integers(1, n + 1))
        pieces = needles(rng, tokens, n, asked, mix.length)
        if sum(len(p) for p, _ in pieces) <= tokens:
            return pieces
        n = max(1, n - 1)


def _repeat_row(rng: np.random.Generator, tokens: int) -> list[Piece]:
    _, symbols, rare, anything = _pools()
    u = rng.random()
    pool = anything if u < 0.5 else symbols if u < 0.6 else rare
    span = rng.choice(pool, rng.integers(8, max(9, tokens // 2)))
    out: list[Piece] = [(np.array([g.BOS]), TEMPLATE)]
    if rng.random() < 0.3:
        out += _prose(rng, int(rng.integers(8, tokens // 3)))
    out.append((span, RANDOM))
    n = sum(len(p) for p, _ in out)
    while n < tokens:
        between = _prose(rng, 10) if rng.random() < 0.2 else []
        out += [*between, (span[:1], RANDOM), (span[1:], REPEATED)]
        n += len(span) + sum(len(p) for p, _ in between)
    return out


def _dictionary_row(rng: np.random.Generator, tokens: int) -> list[Piece]:
    anything = _pools()[3]
    keys = rng.choice(anything, int(rng.integers(4, max(5, tokens // 10))), replace=False)
    values = [rng.choice(anything, rng.integers(1, 4)) for _ in keys]
    colon, stop = g.INDEX[":"], g.INDEX[";"]
    out: list[Piece] = [(np.array([g.BOS]), TEMPLATE)]
    out += [(np.array([k, colon, *v, stop]), RANDOM) for k, v in zip(keys, values, strict=True)]
    n = sum(len(p) for p, _ in out)
    while n < tokens:
        i = int(rng.integers(len(keys)))
        out += [(np.array([keys[i], colon]), TEMPLATE), (values[i][:1], FIRST), (values[i][1:], ANSWER)]
        out.append((np.array([stop]), PROSE))
        n += len(values[i]) + 3
    return out


def batch(rng: np.random.Generator, rows: int, tokens: int, mix: Mix) -> tuple[np.ndarray, np.ndarray]:
    """Ids and token classes, each [rows, tokens]."""
    x = np.full((rows, tokens), g.PAD)
    kind = np.full((rows, tokens), PADDING)
    for b in range(rows):
        u = rng.random()
        if u < mix.repeat:
            pieces = _repeat_row(rng, tokens)
        elif u < mix.repeat + mix.needles:
            pieces = _needle_row(rng, tokens, mix)
        elif u < mix.repeat + mix.needles + mix.dictionary:
            pieces = _dictionary_row(rng, tokens)
        else:
            pieces = [(np.array([g.BOS]), TEMPLATE), *_prose(rng, tokens)]
        x[b], kind[b] = _fit(pieces, tokens)
    return x, kind


def _fit(pieces: Sequence[Piece], tokens: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.concatenate([p for p, _ in pieces])[:tokens]
    kind = np.concatenate([np.full(len(p), c) for p, c in pieces])[:tokens]
    pad = (0, tokens - len(x))
    return np.pad(x, pad, constant_values=g.PAD), np.pad(kind, pad, constant_values=PADDING)
