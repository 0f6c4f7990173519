"""Needles with several keys or values as rows of RULER, in the words of the reference models' grammar.

multikey: several keys with a value each, one of them asked for (`niah_multikey_1`). multivalue: one key with several
values, all asked for (`niah_multivalue`). Statements stand at even depths, in random order.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from workbench.errors import BadInput
from workbench.progress import counting
from workbench.reference_models.recipes import grammar
from workbench.tasks.assembling import Assembler
from workbench.tasks.needle import VALUE_WORDS, texts_of
from workbench.tasks.ruler import Row

TASKS = {"multikey": "niah_multikey_1", "multivalue": "niah_multivalue"}
STATEMENTS = 4
BETWEEN = 2
"""Tokens that an answer may take beside each value."""


def generate_rows(
    assembler: Assembler, kind: str, length: int, rows: int, seed: int, haystack: str | Path | None = None
) -> list[Row]:
    """Rows of one kind (a key of TASKS) whose prompt and answer take at most `length` tokens.

    Raises BadInput for another kind, for a vocabulary that does not hold the words, and where nothing fits.
    """
    if kind not in TASKS:
        raise BadInput(f"tasks={kind}: use {', '.join(TASKS)}")
    rng = np.random.default_rng([seed, *kind.encode()])
    return [_row(assembler, kind, length, i, rng, haystack) for i in counting("rows drawn", rows)]


def _row(
    assembler: Assembler, kind: str, length: int, index: int, rng: np.random.Generator, haystack: str | Path | None
) -> Row:
    keys = [str(x) for x in rng.choice(grammar.NAMES, STATEMENTS, replace=False)]
    values = [" ".join(x) for x in rng.choice(grammar.RARE, (STATEMENTS, VALUE_WORDS), replace=False)]
    if kind == "multivalue":
        keys = keys[:1] * STATEMENTS
    stated = [grammar.STATEMENT.format(name=key, value=value) for key, value in zip(keys, values, strict=True)]
    question, _, prefix = grammar.QUESTION.format(name=keys[0]).partition(" answer")
    outputs = tuple(values) if kind == "multivalue" else (values[0],)
    new_tokens = sum(len(assembler.piece(value)) + BETWEEN for value in outputs)
    asked = Row("", outputs, TASKS[kind], f" {question}", f" answer{prefix}", new_tokens, index)
    if not assembler.known(" ".join((*stated, asked.question, asked.answer_prefix))):
        raise BadInput("the bundled needles do not fit this vocabulary: use tasks=none, and ruler=FILE.jsonl for rows")
    room = length - new_tokens - len(asked.tokens(assembler)[0]) - sum(len(assembler.piece(s)) for s in stated)
    sentences: list[str] = []
    for sentence, ids in assembler.pieces(texts_of(haystack, rng)):
        room -= len(ids)
        if room < 0:
            break
        sentences.append(sentence)
    if not sentences:
        raise BadInput(f"context={length}: no room for a sentence beside {STATEMENTS} statements; use more")
    places = [round(len(sentences) * (i + 0.5) / STATEMENTS) for i in range(STATEMENTS)]
    order = rng.permutation(STATEMENTS)
    parts = [sentences[a:b] for a, b in itertools.pairwise([0, *places, len(sentences)])]
    text = [*parts[0], *itertools.chain(*([stated[i], *part] for i, part in zip(order, parts[1:], strict=True)))]
    return Row(" ".join(text), outputs, TASKS[kind], asked.question, asked.answer_prefix, new_tokens, index)
