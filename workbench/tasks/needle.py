"""Needles in a haystack: one statement to remember, a question about it, and every span known by token id."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import BadInput
from workbench.reference_models.recipes import grammar
from workbench.tasks.assembling import Assembler, Needle, Sample
from workbench.untrusted import parsed, text_of

__all__ = [
    "Assembler",
    "Block",
    "Needle",
    "Sample",
    "answer_ends",
    "blocks",
    "generate",
    "read_needles",
    "sentences_of",
    "texts_of",
]

KINDS = ("words", "numbers", "uuid", "sentence")
VALUE_WORDS = 4


@dataclass(frozen=True)
class Block:
    """One length and one haystack: what shares a prefix and is one unit of work."""

    name: str
    samples: tuple[Sample, ...]
    haystack: tuple[int, ...]


def generate(rng: np.random.Generator, kind: str, name: str) -> Needle:
    """A needle of a kind in the words of the reference models' grammar."""
    n = VALUE_WORDS
    if kind == "words":
        value = " ".join(rng.choice(grammar.RARE, n, replace=False))
    elif kind == "numbers":
        value = " ".join(rng.choice(list("0123456789"), n, replace=False))
    elif kind == "uuid":
        value = " ".join(rng.choice(list("0123456789bcdef"), n, replace=False))
    elif kind == "sentence":
        words = [rng.choice(w) for w in (grammar.ADJECTIVES, grammar.NOUNS, grammar.VERBS, grammar.PLACES)]
        value = " ".join(words)
    else:
        raise BadInput(f"kind={kind} is no kind of needle: use {', '.join(KINDS)}")
    before, after = grammar.STATEMENT.format(name=name, value="|").split(" | ")
    question = grammar.QUESTION.format(name=name)
    return Needle(f"{name}: {value}", kind, before, value, after, question, grammar.QUESTION_FRAME)


def read_needles(path: str | Path) -> list[Needle]:
    """The user's needles: JSONL with `needle`, `answer` (found verbatim inside it) and `question`."""
    out = []
    try:
        lines = text_of(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"needles={path}: cannot be read ({error})") from None
    for i, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parsed(line)
            needle, answer, question = (row[k].strip() for k in ("needle", "answer", "question"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(f"{path}:{i}: not an object with the strings needle, answer and question") from None
        if not answer or answer not in needle:
            raise BadInput(f"{path}:{i}: the answer {answer!r} does not stand in the needle")
        before, after = needle.split(answer, 1)
        out.append(Needle(f"{Path(path).name}:{i}", "user", before.strip(), answer, after.strip(), question))
    if not out:
        raise BadInput(f"needles={path}: no needle in it; one JSON object a line with needle, answer, question")
    return out


def answer_ends(tokenizer: Any, stop_tokens: Sequence[int], needles: Sequence[Needle] | None = None) -> set[int]:
    """Ids that end an answer: end of text, whatever holds a line break, a full stop; none that an answer holds."""
    points = {i for i, piece in enumerate(_pieces(tokenizer)) if piece.strip() == "."}
    held = {i for n in needles or () for i in tokenizer(n.answer, add_special_tokens=False)["input_ids"]}
    return (line_ends(tokenizer, stop_tokens) | points) - held


def line_ends(tokenizer: Any, stop_tokens: Sequence[int]) -> set[int]:
    """Ids that end a line: end of text, whatever holds a line break."""
    return {*stop_tokens, *(i for i, piece in enumerate(_pieces(tokenizer)) if "\n" in piece)}


def _pieces(tokenizer: Any) -> list[str]:
    return tokenizer.batch_decode([[i] for i in range(len(tokenizer))])


def sentences_of(source: str | Path | None, rng: np.random.Generator, assembler: Assembler) -> Iterator[list[int]]:
    """`texts_of` as ids."""
    return (ids for _, ids in assembler.pieces(texts_of(source, rng)))


def texts_of(source: str | Path | None, rng: np.random.Generator) -> Iterator[str]:
    """An endless run of haystack sentences: generated, or the user's file or folder of texts, in turn."""
    if source is None:
        while True:
            yield grammar.sentence(rng)
    parts = read_haystack(source)
    start = int(rng.integers(len(parts)))
    yield from itertools.cycle(parts[start:] + parts[:start])


def blocks(
    assembler: Assembler,
    lengths: Sequence[int],
    depths: Sequence[float],
    rounds: int,
    seed: int,
    kinds: Sequence[str] = KINDS,
    needles: Sequence[Needle] | None = None,
    haystack: str | Path | None = None,
) -> Iterator[Block]:
    """The ordered list of units: every length once a round, each with its own haystack and fresh needles."""
    for i, length in itertools.product(range(rounds), lengths):
        rng = np.random.default_rng([seed, i, length])
        own = _draw(rng, assembler, kinds, needles, len(depths))
        cost, sentences = max(assembler.cost(n) for n in own), []
        room = length - cost
        for sentence in sentences_of(haystack, rng, assembler):
            room -= len(sentence)
            if room < 0:
                break
            sentences.append(sentence)
        if not sentences:
            least = cost + 32
            raise BadInput(f"lengths={length}: no room for a sentence beside the needle; use at least {least}")
        samples = tuple(assembler.sample(sentences, n, d, length) for n, d in zip(own, depths, strict=True))
        yield Block(f"{length}-{i}", samples, (*assembler.head, *itertools.chain(*sentences)))


def read_haystack(source: str | Path) -> list[str]:
    """Sentences of the user's file or folder of texts. Raises BadInput where there are none."""
    path = Path(source)
    files = sorted(path.glob("**/*.txt")) if path.is_dir() else [path]
    try:
        whole = " ".join(map(text_of, files))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"haystack={source}: cannot be read ({error})") from None
    parts = [s.strip() + "." for s in whole.replace("\n", " ").split(". ") if s.strip()]
    if not parts:
        raise BadInput(f"haystack={source}: no text in it; give a text file or a folder of .txt files")
    return parts


def _draw(
    rng: np.random.Generator, assembler: Assembler, kinds: Sequence[str], given: Sequence[Needle] | None, n: int
) -> list[Needle]:
    if given is not None:
        return [given[j] for j in rng.permutation(np.resize(rng.permutation(len(given)), n))]
    names = rng.choice(grammar.NAMES, n, replace=n > len(grammar.NAMES))
    out = []
    for j, name in enumerate(names):
        needle = generate(rng, kinds[(j + int(rng.integers(len(kinds)))) % len(kinds)], str(name))
        tries = 0
        while not assembler.fits(needle) and tries < 200:
            needle, tries = generate(rng, kinds[tries % len(kinds)], str(rng.choice(grammar.NAMES))), tries + 1
        if not assembler.fits(needle):
            raise BadInput("the bundled needles do not fit this vocabulary: give your own with needles=FILE.jsonl")
        out.append(needle)
    return out
