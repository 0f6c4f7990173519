"""What a vision-language model says of rendered scenes: captions, and how sure it is of a yes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench import images
from workbench.errors import BadInput
from workbench.tasks.chair import Caption
from workbench.tasks.scenes import ASK, DESCRIBE, Scene

LONGEST = 48
"""Tokens of a caption, at most."""
PLACEHOLDER = "<image> "
"""Stands for the picture in front of a text."""


def describe(model: Any, scenes: Sequence[Scene], edits: Any = None, batch: int = 64) -> list[Caption]:
    """Greedy captions of scenes. edits: see `Model.generate`."""
    out = []
    for part in _batched(scenes, batch):
        asked = images.prompt(model, [PLACEHOLDER + DESCRIBE] * len(part), [s.image for s in part])
        said = model.generate(asked.tokens, LONGEST, edits=edits, inputs=asked.inputs)
        texts = model.tokenizer.batch_decode(said, skip_special_tokens=True)
        out += [Caption(scene.name, text) for scene, text in zip(part, texts, strict=True)]
    return out


@torch.no_grad()
def yes_margins(
    model: Any, asked: Sequence[tuple[Scene, str]], edits: Any = None, batch: int = 128
) -> Float[Tensor, " questions"]:
    """log p(yes) − log p(no) to `is there a … in the image ?`, in nats; above 0 the model says yes.

    Raises BadInput for a tokenizer that has no single token for yes or for no.
    """
    yes, no = (_single(model, word) for word in ("yes", "no"))
    out = []
    for part in _batched(asked, batch):
        texts = [PLACEHOLDER + ASK.format(word) for _, word in part]
        made = images.prompt(model, texts, [scene.image for scene, _ in part])
        last = made.tokens.shape[1] - 1
        logits = model.forward(made.tokens, inputs=made.inputs, edits=edits, keep=slice(last, last + 1)).logits[:, -1]
        out.append((logits[:, yes] - logits[:, no]).float().cpu())
    return torch.cat(out)


def _single(model: Any, word: str) -> int:
    ids = model.tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == model.tokenizer.unk_token_id:
        raise BadInput(f"{model.name}: {word!r} is no single token of its tokenizer")
    return int(ids[0])


def _batched(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))
