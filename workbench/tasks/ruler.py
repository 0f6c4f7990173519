"""Rows of RULER (Hsieh et al. 2024, arXiv 2404.06654): read from a user's file, and scored by its rule.

RULER writes `input` and `outputs`; kvpress' view of the same rows has `context`, `question`, `answer_prefix` and `answer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.tasks.assembling import Assembler
from workbench.untrusted import parsed, text_of

NEW_TOKENS = {"niah": 128, "vt": 30, "cwe": 120, "fwe": 50, "qa": 32}
"""Tokens that RULER lets a model write, by the beginning of the task's name."""


@dataclass(frozen=True)
class Row:
    """One prompt: `context`, `question` and `answer_prefix` in a row. outputs: what the answer has to contain.

    A row of `input` alone is all context, its template included.
    """

    context: str
    outputs: tuple[str, ...]
    task: str
    question: str = ""
    answer_prefix: str = ""
    new_tokens: int = 128
    index: int = 0

    @property
    def input(self) -> str:
        """The prompt as one text."""
        return self.context + self.question + self.answer_prefix

    def record(self, length: int) -> dict[str, Any]:
        """In RULER's fields, and kvpress' beside them. length: of the prompt in tokens."""
        return {
            "index": self.index, "input": self.input, "outputs": list(self.outputs), "length": length,
            "task": self.task, "context": self.context, "question": self.question,
            "answer_prefix": self.answer_prefix, "answer": list(self.outputs), "max_new_tokens": self.new_tokens,
        }  # fmt: skip

    def tokens(self, assembler: Assembler) -> tuple[tuple[int, ...], int]:
        """The prompt as ids, begun as by the tokenizer, and where its question begins (its end, if no question is known)."""
        if not self.question and not self.answer_prefix:
            whole = assembler.beginning(assembler.ids(self.context))
            return tuple(whole), len(whole)
        left = [*assembler.head, *assembler.ids(self.context)]
        right = [*assembler.ids(self.question), *assembler.tail, *assembler.ids(self.answer_prefix)]
        return (*left, *right), len(left)


def score(prediction: str, outputs: Sequence[str], task: str) -> float:
    """Share of the strings that a prediction contains, upper case aside; of questions (qa) any one is enough."""
    said = prediction.lower()
    found = [output.lower() in said for output in outputs]
    return float(any(found)) if task.startswith("qa") else sum(found) / len(found)


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a .jsonl file. Raises BadInput, with the line."""
    source = Path(path)
    try:
        lines = text_of(source).split("\n")  # strings in JSON may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"ruler={path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    default = source.parent.name if source.stem in ("validation", "test", "train") else source.stem
    out = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                out.append(_row(parsed(line), default, len(out)))
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
                raise BadInput(
                    f"{path}:{number}: no RULER row: an object with the strings input and outputs, or context, "
                    "question, answer_prefix and answer"
                ) from None
    if not out:
        raise BadInput(f"ruler={path}: no row in it; one JSON object a line")
    return out


def _row(found: Mapping[str, Any], default: str, index: int) -> Row:
    named = "context" in found
    outputs = found["answer" if named else "outputs"]
    outputs = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    task = str(found.get("task", default))
    parts = {name: found.get(name, "") for name in ("question", "answer_prefix")} if named else {}
    context = found["context" if named else "input"]
    if not outputs or not all(isinstance(text, str) and text for text in (*outputs, context)):
        raise ValueError("a prompt and what its answer has to contain are needed")
    if not all(isinstance(text, str) for text in parts.values()):
        raise TypeError("the question is a string")
    plain = task.removeprefix("ruler_")
    usual = next((n for name, n in NEW_TOKENS.items() if plain.startswith(name)), 128)
    new_tokens = int(found.get("max_new_tokens", usual))
    if new_tokens < 1:
        raise ValueError("an answer has at least one token")
    return Row(context, outputs, plain, **parts, new_tokens=new_tokens, index=int(found.get("index", index)))
