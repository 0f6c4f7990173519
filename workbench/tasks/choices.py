"""Multiple choice: a prompt, the texts that may follow, and which of them should. Bundled, or the user's JSONL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.errors import BadInput, did_you_mean
from workbench.progress import counting
from workbench.reference_models.recipes import grammar
from workbench.tasks.assembling import Assembler
from workbench.untrusted import parsed, text_of

NAMES = 4
"""Names with a code in a bundled prompt."""
REPEATS = 5
"""Most times that a wrong code is stated."""
PROSE = 8
"""Sentences without a code in a bundled prompt."""
Row = tuple[str, str, list[str], int]
"""Name, prompt, choices, index of the right one."""


@dataclass(frozen=True)
class ChoiceSample:
    """A prompt and its choices as token ids. name: what splits and results know it by."""

    name: str
    prompt: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    answer: int


def choice_samples(
    task: str, assembler: Assembler, n: int | None, seed: int, score: str = "full"
) -> list[ChoiceSample]:
    """Samples of a bundled task by its name, or of a JSONL file by its path.

    n: how many, of a longer file drawn by the seed; None is the whole file. score: "full" compares the log-probability
    of whole choices, "first" of their first tokens. Raises BadInput, with the line, for what cannot be asked or told apart.
    """
    if task in TASKS:
        rng = np.random.default_rng(seed)
        texts: list[Row] = [(f"{task}:{i}", *TASKS[task](rng)) for i in counting("questions drawn", n or 500)]
    else:
        texts = check_task(task)
        if n is not None and n < len(texts):  # a file may be sorted
            texts = [texts[i] for i in sorted(np.random.default_rng(seed).choice(len(texts), n, replace=False))]
    return [_sample(assembler, score, *texts[i]) for i in counting("questions as tokens", len(texts))]


def check_task(task: str) -> list[Row]:
    """The rows of a file; none for a bundled task. Raises BadInput for what is neither."""
    if task in TASKS:
        return []
    if not Path(task).is_file():
        near = did_you_mean(task, TASKS)
        raise BadInput(f"task={task}: no file and no bundled task.{near} Bundled: {', '.join(TASKS)}")
    return read_choices(task)


def read_choices(path: str | Path) -> list[Row]:
    """JSONL with `prompt`, `choices` and `answer`, the right choice or its index from 0: (name, those three)."""
    try:
        lines = text_of(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"task={path}: cannot be read ({error})") from None
    out = [(f"{Path(path).name}:{i}", *_row(f"{path}:{i}", line)) for i, line in enumerate(lines, 1) if line.strip()]
    if not out:
        raise BadInput(f"task={path}: nothing in it; one JSON object a line with prompt, choices, answer")
    return out


def _row(place: str, line: str) -> tuple[str, list[str], int]:
    try:
        row = parsed(line)
        prompt, choices, answer = row["prompt"], row["choices"], row["answer"]
        sane = isinstance(prompt, str) and isinstance(choices, list) and all(isinstance(c, str) for c in choices)
    except (ValueError, KeyError, TypeError):
        sane = False
    if not sane:
        raise BadInput(f"{place}: not an object with prompt (text), choices (list of texts) and answer")
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise BadInput(f"{place}: give at least two choices, all different")
    if isinstance(answer, str) and answer in choices:
        answer = choices.index(answer)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise BadInput(f"{place}: answer {answer!r} is none of the choices, nor an index from 0 to {len(choices) - 1}")
    return prompt, choices, answer


def _sample(assembler: Assembler, score: str, name: str, prompt: str, choices: list[str], answer: int) -> ChoiceSample:
    ids = [tuple(assembler.piece(c)) for c in choices]
    if score == "first":
        ids = [c[:1] for c in ids]
    for i, one in enumerate(ids):
        if not one:
            raise BadInput(f"{name}: choice {choices[i]!r} has no token")
        if one in ids[:i]:
            other = choices[ids.index(one)]
            begin = "begin with the same token: use score=full" if score == "first" else "are the same tokens"
            raise BadInput(f"{name}: the choices {other!r} and {choices[i]!r} {begin}")
    text = (*assembler.head, *assembler.piece(prompt), *assembler.tail)
    return ChoiceSample(name, text, tuple(ids), tuple(choices), answer)


def _told(rng: np.random.Generator, repeats: Sequence[int]) -> tuple[str, list[str], list[str]]:
    """Prose with statements in it, each so many times; the names and their codes."""
    names = [str(x) for x in rng.choice(grammar.NAMES, len(repeats), replace=False)]
    codes = [str(x) for x in rng.choice(grammar.RARE, len(repeats), replace=False)]
    told = zip(names, codes, repeats, strict=True)
    parts = [grammar.STATEMENT.format(name=n, value=c) for n, c, times in told for _ in range(times)]
    parts += [grammar.sentence(rng) for _ in range(PROSE)]
    text = [grammar.sentence(rng), *(parts[int(i)] for i in rng.permutation(len(parts)))]
    return " ".join(text), names, codes


def _needle_choice(rng: np.random.Generator) -> tuple[str, list[str], int]:
    """Whose code is it? The right one is stated once, a rival's one to five times, two others once."""
    repeats = [1, int(rng.integers(1, REPEATS + 1)), *[1] * (NAMES - 2)]
    text, names, codes = _told(rng, repeats)
    order = [int(i) for i in rng.permutation(NAMES)]
    return f"{text} {grammar.QUESTION.format(name=names[0])}", [codes[i] for i in order], order.index(0)


def _yes_no(rng: np.random.Generator) -> tuple[str, list[str], int]:
    """Is this the code of that name? As often as not it is another's."""
    text, names, codes = _told(rng, [1] * NAMES)
    right = bool(rng.integers(2))
    asked = f"is {codes[0 if right else 1]} the secret code of {names[0]} ?"
    return f"{text} {grammar.QUESTION_FRAME.format(asked)}", ["yes", "no"], 0 if right else 1


TASKS: dict[str, Callable[[np.random.Generator], tuple[str, list[str], int]]] = {
    "needle-choice": _needle_choice,
    "yes-no": _yes_no,
}
