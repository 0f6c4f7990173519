"""Pictures beside the text: what a vision-language model reads further, and where its pictures stand in the tokens.

`model(tokens, inputs={"pixel_values": …})`, `generate`, `observe` and `forward` take the further inputs by Hugging
Face's names; with a key-value cache they belong to the first forward alone.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.beginnings import first_ids
from workbench.errors import BadInput, Unsupported
from workbench.vision import why_none

OWN = {
    "input_ids": "tokens", "attention_mask": "attention_mask", "cache": "cache", "past_key_values": "cache",
    "use_cache": "use_cache", "logits_to_keep": "keep", "inputs_embeds": "from_layer", "labels": "logits and a loss",
}  # fmt: skip
"""Inputs of Hugging Face's that are arguments of their own here."""


class Prompt(NamedTuple):
    """tokens: ids with a placeholder for each part of a picture. inputs: what else the model reads."""

    tokens: Int[Tensor, "b n"]
    inputs: dict[str, Tensor]


def prompt(model: Any, text: str | list[str], images: Any = None) -> Prompt:
    """A text and its pictures (PIL images or arrays) as the model reads them, begun as by its own tokenizer (BOS once).

    text: or several, one a row, that are equally long in tokens.

    Raises Unsupported for a model without a processor, which turns pictures into numbers; BadInput for texts and pictures
    that do not go together.
    """
    processor = getattr(model.bridge, "processor", None)
    if processor is None:
        raise Unsupported(
            f"{model.name}: no processor could be loaded{why_none(model.bridge)}, so it reads no pictures: pip install "
            "pillow, or torchvision to fit your torch, or give tokens and inputs="
        )
    try:
        made = dict(processor(text=text, images=images, return_tensors="pt", add_special_tokens=False))
    except ValueError as error:
        raise BadInput(f"{model.name}: {' '.join(str(error).split())}") from error
    ids, first = made.pop("input_ids"), list(first_ids(model.tokenizer))
    made.pop("attention_mask", None)
    if any(row[: len(first)] != first for row in ids.tolist()):
        made = {k: _longer(v, ids, (len(first), 0)) for k, v in made.items()}
        ids = torch.cat([ids.new_tensor(first).expand(len(ids), -1), ids], 1)
    return Prompt(ids.to(model.device), {k: _placed(model, v) for k, v in made.items() if isinstance(v, Tensor)})


def positions(model: Any, tokens: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Which columns hold placeholders of pictures; none in a model of text."""
    token = _token(model)
    return torch.zeros_like(tokens, dtype=torch.bool) if token is None else tokens == token


def text_tokens(model: Any) -> list[int]:
    """Ids that are ordinary text, ascending: no special token, no placeholder of a picture, none the model has not."""
    known = torch.arange(min(len(model.tokenizer), int(model.bridge.cfg.d_vocab)))
    other = {*model.tokenizer.all_special_ids, *known[positions(model, known)].tolist()}
    return [i for i in known.tolist() if i not in other]


def checked(model: Any, inputs: Mapping[str, Any] | None, tokens: Tensor, past: int) -> dict[str, Any]:
    """The further inputs of one forward, where the model is and of its type.

    Raises BadInput for inputs that the model does not take, and for placeholders without pictures.
    """
    further = dict(inputs or {})
    known = inspect.signature(model.bridge.original_model.forward).parameters
    for name in further:
        if name in OWN:
            raise BadInput(f"inputs: {name} is not given here; use {OWN[name]}")
        if name not in known:
            raise BadInput(f"inputs: {model.name} takes no {name}")
    blind = not further and past == 0 and not tokens.is_floating_point()
    if blind and bool(positions(model, tokens).any()):
        count = int(positions(model, tokens).sum())
        raise BadInput(f"{count} placeholders of pictures (id {_token(model)}) but no inputs=: give pixel_values, too")
    return {name: _placed(model, value) for name, value in further.items()}


def placed(model: Any) -> bool:
    """Whether masks, positions or later layers depend on where pictures stand, which a residual stream does not say."""
    known = inspect.signature(model.bridge.original_model.forward).parameters
    return any(name in known for name in ("token_type_ids", "mm_token_type_ids"))


@contextlib.contextmanager
def matching() -> Iterator[None]:
    """Says in one line what Hugging Face says of placeholders that are more or fewer than the pictures' parts."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, BadInput) or "do not match" not in str(error):
            raise
        raise BadInput(f"inputs: {' '.join(str(error).split())}") from error


def continued(asked: Prompt, new: Int[Tensor, "b m"]) -> Prompt:
    """A prompt and what follows it: what is said of each token says of the new ones that they are text (0)."""
    tokens = torch.cat([asked.tokens, new.to(asked.tokens)], 1)
    return Prompt(tokens, {k: _longer(v, asked.tokens, (0, new.shape[1])) for k, v in asked.inputs.items()})


def _token(model: Any) -> int | None:
    config = model.bridge.original_model.config
    return getattr(config, "image_token_id", getattr(config, "image_token_index", None))


def _placed(model: Any, value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else None)


def _longer(value: Any, ids: Tensor, by: tuple[int, int]) -> Any:
    """A value per token gets zeros for tokens that are put before and behind."""
    per_token = isinstance(value, Tensor) and value.shape == ids.shape
    return torch.nn.functional.pad(value, by) if per_token else value
