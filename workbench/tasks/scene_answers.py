"""What a vision-language model says of pictures: captions, answers to questions, and how sure it is of a yes.

What it is shown has a `name` and an `image`: rendered scenes, or pictures of the user's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench import images
from workbench.errors import BadInput
from workbench.tasks.chair import Caption
from workbench.tasks.wording import answer_tokens, asking, describing

LONGEST = 48
"""Tokens of a caption, at most."""
PLACEHOLDER = "<image> "
"""Stands for the picture in front of a text."""


class Shown(Protocol):
    """A picture with a name."""

    @property
    def name(self) -> str:
        """Unique."""
        ...

    @property
    def image(self) -> Any:
        """As processors take it."""
        ...


def describe(
    model: Any, shown: Sequence[Shown], edits: Any = None, batch: int = 64, longest: int = LONGEST
) -> list[Caption]:
    """Greedy captions of pictures. edits: see `Model.generate`. longest: tokens of a caption, at most."""
    out = []
    for part in _batched(shown, batch):
        asked = images.prompt(model, [describing(model)] * len(part), [s.image for s in part])
        said = model.generate(asked.tokens, longest, edits=edits, inputs=asked.inputs)
        texts = model.tokenizer.batch_decode(said, skip_special_tokens=True)
        out += [Caption(one.name, text) for one, text in zip(part, texts, strict=True)]
    return out


def answers(model: Any, asked: Sequence[tuple[Shown, str]], edits: Any = None, batch: int = 128) -> list[str]:
    """Greedy answers to whether an object is in a picture, as text; `workbench.tasks.pope.parse` reads them."""
    out: list[str] = [""] * len(asked)
    for rows, made in _asked(model, asked, batch):
        said = model.generate(made.tokens, answer_tokens(model), edits=edits, inputs=made.inputs)
        for row, text in zip(rows, model.tokenizer.batch_decode(said, skip_special_tokens=True), strict=True):
            out[row] = text.strip()
    return out


@torch.no_grad()
def yes_margins(
    model: Any, asked: Sequence[tuple[Shown, str]], edits: Any = None, batch: int = 128
) -> Float[Tensor, " questions"]:
    """log p(yes) − log p(no) to whether an object is in a picture, in nats; above 0 the model says yes.

    All single tokens that spell the word count together. Raises BadInput for a tokenizer without one for yes or for no.
    """
    yes, no = (_spelled(model, word) for word in ("yes", "no"))
    out = torch.zeros(len(asked))
    for rows, made in _asked(model, asked, batch):
        last = made.tokens.shape[1] - 1
        logits = model.forward(made.tokens, inputs=made.inputs, edits=edits, keep=slice(last, last + 1)).logits[:, -1]
        margins = logits[:, yes].float().logsumexp(-1) - logits[:, no].float().logsumexp(-1)
        out[rows] = margins.cpu()
    return out


def _asked(model: Any, asked: Sequence[tuple[Shown, str]], batch: int) -> Iterator[tuple[list[int], images.Prompt]]:
    """Batches of questions that are equally long, and their places: words differ in tokens."""
    texts = [asking(model, word) for _, word in asked]
    length = {text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in set(texts)}
    for n in sorted(set(length.values())):
        rows = [i for i, text in enumerate(texts) if length[text] == n]
        for part in _batched(rows, batch):
            yield list(part), images.prompt(model, [texts[i] for i in part], [asked[i][0].image for i in part])


def _spelled(model: Any, word: str) -> Int[Tensor, " ids"]:
    """Ids of the single tokens that spell a word, with or without a capital or a space before it."""
    found = set()
    for text in (word, word.capitalize(), f" {word}", f" {word.capitalize()}"):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and ids[0] != model.tokenizer.unk_token_id:
            found.add(int(ids[0]))
    if not found:
        raise BadInput(f"{model.name}: {word!r} is no single token of its tokenizer")
    return torch.tensor(sorted(found), device=model.device)


def _batched(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))
