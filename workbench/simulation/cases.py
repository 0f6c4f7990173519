"""What is asked: a prompt that is read into the cache, and tokens that are then decoded from it, teacher-forced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import BadInput
from workbench.tasks.assembling import Assembler, Sample
from workbench.tasks.ruler import Row


@dataclass(frozen=True)
class Case:
    """tokens[:prefix] are read before the cache is cut. The tokens after them are decoded; the last `scored` are told.

    again: so many tokens at the end of the prefix are decoded once more from the cut cache, so that it has to give the
    first new token, too. kind: "needle" for an answer to recall, "prose" for text that is only continued, else the task of
    `row`, whose told tokens are what the full cache says.
    """

    tokens: tuple[int, ...]
    prefix: int
    scored: int
    again: int = 0
    kind: str = "needle"
    name: str = ""
    row: Row | None = None

    def __post_init__(self) -> None:
        """Check that something is read and something told."""
        fed = len(self.tokens) - 1 - self.start
        if not 0 <= self.again < self.prefix <= len(self.tokens) or not 0 < self.scored <= fed:
            raise BadInput(f"case {self.name!r}: nothing is read, or nothing is told behind what is read")

    @property
    def start(self) -> int:
        """Position of the first token that is decoded."""
        return self.prefix - self.again

    @property
    def new_tokens(self) -> int:
        """Tokens that may be decoded freely."""
        return self.scored if self.row is None else self.row.new_tokens

    @property
    def steps(self) -> tuple[int, ...]:
        """Tokens that are fed to decode: all from the start on but the last, which is only told."""
        return self.tokens[self.start : -1]


def of_sample(sample: Sample, question_seen: bool) -> Case:
    """A needle's prompt and its answer.

    question_seen: the cache is cut when the whole prompt has been read, and the prompt's last token is decoded again; else
    it is cut when the haystack has been read, and the question is decoded from the cut cache.
    """
    tokens, name = (*sample.tokens, *sample.answer), f"{sample.needle} at {sample.depth:.0f} %"
    if question_seen:
        return Case(tokens, len(sample.tokens), len(sample.answer), 1, name=name)
    return Case(tokens, sample.spans["question"][0], len(sample.answer), name=name)


def of_row(row: Row, assembler: Assembler, answer: Sequence[int], question_seen: bool) -> Case:
    """A row of RULER with what the full cache says behind it. Raises BadInput where its question is needed and unknown."""
    prompt, asked = row.tokens(assembler)
    tokens, name = (*prompt, *answer), f"{row.task} {row.index}"
    if question_seen:
        return Case(tokens, len(prompt), len(answer), 1, row.task, name, row)
    if asked == len(prompt):
        raise BadInput(f"{name}: `input` does not say where its question begins: question=seen, or rows with a context")
    return Case(tokens, asked, len(answer), 0, row.task, name, row)


@dataclass(frozen=True, eq=False)
class Batch:
    """Cases as right-padded rows; causal rows never see what only fills up."""

    cases: Sequence[Case]
    tokens: Int[Tensor, "b n"]
    steps: Int[Tensor, "b t"]
    prefix: Int[Tensor, " b"]
    start: Int[Tensor, " b"]

    @classmethod
    def of(cls, cases: Sequence[Case], device: torch.device) -> Batch:
        """Put cases together."""
        return cls(
            cases, _padded([c.tokens for c in cases], device), _padded([c.steps for c in cases], device),
            torch.tensor([c.prefix for c in cases], device=device),
            torch.tensor([c.start for c in cases], device=device),
        )  # fmt: skip

    @property
    def positions(self) -> Int[Tensor, "b t"]:
        """Of the decoded tokens."""
        return self.start[:, None] + torch.arange(self.steps.shape[1], device=self.steps.device)

    @property
    def counts(self) -> list[int]:
        """Decoded tokens of each row, without what only fills up."""
        return [len(c.steps) for c in self.cases]


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "b n"]:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
