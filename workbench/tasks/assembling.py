"""Prompts put together as token ids, piece by piece: a needle in a haystack, its question, every span known."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.beginnings import first_ids, once
from workbench.errors import BadInput
from workbench.tasks.chat_templates import rendered

NULL_QUERIES = ("N/A", "no")
"""What stands where a query would, to see which attention comes without one: the first that the vocabulary holds."""


@dataclass(frozen=True)
class Needle:
    """A statement with its answer inside, and the question that asks for it.

    frame: what of the question stays when it asks for nothing, with `{}` where the query stood.
    """

    name: str
    kind: str
    before: str
    answer: str
    after: str
    question: str
    frame: str = "{}"


@dataclass(frozen=True)
class Sample:
    """A prompt as token ids with its spans (start, end) and the answer that is expected after it."""

    tokens: tuple[int, ...]  # prompt, without the expected answer
    answer: tuple[int, ...]
    spans: dict[str, tuple[int, int]]
    prefix: int  # tokens that all samples of the block share
    needle: str
    kind: str
    depth: float  # reached, in percent of the haystack's tokens
    cell: tuple[int, float]  # length and depth that were asked for
    null: tuple[int, ...] = ()  # what stands from the question on when nothing is asked; empty: nothing is known to


EMPTY = 1000
"""Texts in a row without a token, after which no more are asked for."""


class Assembler:
    """Puts a context together as token ids, piece by piece, so that every span is known."""

    def __init__(self, tokenizer: Any, template: str = "auto") -> None:
        self.tokenizer = tokenizer
        chat = bool(getattr(tokenizer, "chat_template", None))
        if template == "chat" and not chat:
            raise BadInput("template=chat: this model's tokenizer has no chat template; use template=none")
        if template not in ("auto", "chat", "none"):
            raise BadInput(f"template={template}: use auto, chat or none")
        self.template = "chat" if chat and template != "none" else "none"
        self._glue = "" if self.ids("b c") == self.ids("b") + self.ids("c") else " "
        self.head, self.tail = self._frame()
        self.null_query = next((text for text in NULL_QUERIES if self.known(text)), None)

    def ids(self, text: str) -> list[int]:
        """Ids of a text as it stands, nothing put before or after it."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def piece(self, text: str) -> list[int]:
        """Ids of a piece as it stands inside a text."""
        return self.ids(self._glue + text) if text else []

    def pieces(self, texts: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
        """Each text with its ids as a piece. Raises BadInput where the tokenizer makes nothing of text after text."""
        empty = 0
        for text in texts:
            ids = self.piece(text)
            empty = 0 if ids else empty + 1
            if empty == EMPTY:
                raise BadInput(
                    f"the model's tokenizer gives no token for {text[:80]!r}, nor for {EMPTY - 1} texts before it"
                )
            yield text, ids

    def beginning(self, ids: list[int]) -> list[int]:
        """Ids of a whole text as the tokenizer begins it: BOS exactly once, or nowhere."""
        return once(first_ids(self.tokenizer), ids)

    def _frame(self) -> tuple[list[int], list[int]]:
        """What stands before and after the user's text, its beginning included."""
        if self.template == "none":
            return self.beginning([]), []
        mark = "\u241f"
        text = rendered(self.tokenizer, [{"role": "user", "content": mark}], tokenize=False)
        if text.count(mark) != 1:
            raise BadInput(
                "template=chat: the model's chat template does not say the user's text once; use template=none"
            )
        left, right = text.split(mark)
        return self.beginning(self.ids(left)), self.ids(right)

    def known(self, text: str) -> bool:
        """Whether the vocabulary holds a text: no unknown token in it."""
        unknown = self.tokenizer.unk_token_id
        return unknown is None or unknown not in self.ids(text)

    def fits(self, needle: Needle) -> bool:
        """Whether the vocabulary holds the needle."""
        return self.known(" ".join((needle.before, needle.answer, needle.after, needle.question)))

    def sample(self, sentences: Sequence[Sequence[int]], needle: Needle, depth: float, length: int) -> Sample:
        """Insert a needle at a depth (percent) between sentences."""
        sizes = np.cumsum([0, *(len(s) for s in sentences)])
        at = int(np.abs(sizes - depth / 100 * sizes[-1]).argmin())
        left = [*self.head, *itertools.chain(*sentences[:at])]
        before, answer, after = (self.piece(t) for t in (needle.before, needle.answer, needle.after))
        right = list(itertools.chain(*sentences[at:]))
        question = self.piece(needle.question)
        tokens = [*left, *before, *answer, *after, *right, *question, *self.tail]
        start = len(left) + len(before)
        statement = (len(left), start + len(answer) + len(after))
        asked = len(tokens) - len(self.tail) - len(question)
        spans = {"answer": (start, start + len(answer)), "statement": statement}
        spans["question"] = (asked, asked + len(question))
        reached = 100.0 * sizes[at] / max(1, sizes[-1])
        null = () if self.null_query is None else (*self.piece(needle.frame.format(self.null_query)), *self.tail)
        return Sample(
            tuple(tokens), tuple(answer), spans, len(left), needle.name, needle.kind, reached, (length, depth), null
        )

    def cost(self, needle: Needle) -> int:
        """Tokens of a prompt that are not haystack, and the room that a free answer may take."""
        texts = (needle.before, needle.answer, needle.after, needle.question, needle.answer)
        return len(self.head) + len(self.tail) + sum(len(self.piece(t)) for t in texts) + 1
