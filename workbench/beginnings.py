"""What begins a text: the model's own tokenizer decides, as `tokenizer(text)` of Hugging Face does.

Llama's puts one BOS token first, GLM's two tokens, Qwen's, StableLM's, Pythia's and GPT-2's none. What a tokenizer puts
behind a text (EOS) ends it and is left out: prompts go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.errors import BadInput, ModelError


def first_ids(tokenizer: Any) -> tuple[int, ...]:
    """The ids that a tokenizer puts before those of a text. Raises ModelError where that cannot be seen."""
    whole, bare = (list(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False))
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return tuple(whole[:at])
    raise ModelError(f"the tokenizer reads 'a' as {whole} with special tokens and as {bare} without: no text begins so")


def begun(tokenizer: Any, bos: bool | None = None) -> tuple[int, ...]:
    """The ids that texts shall begin with.

    bos: None as the tokenizer does by itself; True its BOS token, where it has one, too; False none. Raises BadInput for
    a BOS token that is asked for and not there.
    """
    own = () if bos is False else first_ids(tokenizer)
    if own or not bos:
        return own
    if tokenizer.bos_token_id is None:
        raise BadInput("bos=true: this model has no BOS token; leave bos= out, or use bos=false")
    return (int(tokenizer.bos_token_id),)


def once(first: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Ids with what begins a text before them, unless they begin with it."""
    return [*first, *without(first, ids)]


def without(first: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Ids without what begins a text."""
    n = len(first)
    return list(ids[n:] if list(ids[:n]) == list(first) else ids)
