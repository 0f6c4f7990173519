"""The words of the planted circuit models: what the templates of IOI and Colored Objects say, and no more."""

from __future__ import annotations

import functools
from typing import Any

CONTEXT = 64
NAME_COUNT, OBJECT_COUNT = 12, 12
"""Names and coloured objects that the models know: the first so many of the published ones."""
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def names() -> tuple[str, ...]:
    """Names that can be told apart."""
    from workbench.tasks.ioi import NAMES

    return NAMES[:NAME_COUNT]


def objects() -> tuple[str, ...]:
    """Objects whose colour can be asked for."""
    from workbench.tasks.colored_objects import OBJECTS

    return OBJECTS[:OBJECT_COUNT]


def colours() -> tuple[str, ...]:
    """Colours as they stand in the prompt; answers begin with a capital."""
    from workbench.tasks.colored_objects import COLOURS

    return COLOURS


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """All words and marks, each one token."""
    from workbench.tasks import colored_objects, ioi
    from workbench.tasks.spelling import filled

    frames = [filled(t, {"S": "", "IO": "", "place": "", "object": ""})[0] for t in ioi.BABA]
    marks = str.maketrans({mark: f" {mark} " for mark in ",.:?"})
    said = " ".join(frames).translate(marks).split()
    asked = "Q : On the , a an and . What color is the ? A :".split()
    listed = (*colored_objects.SURFACES, *" ".join(colored_objects.PHRASES).split(), *ioi.PLACES, *ioi.OBJECTS)
    shades = (*colours(), *(c.capitalize() for c in colours()))
    return tuple(dict.fromkeys((*SPECIAL, *said, *asked, *listed, *names(), *objects(), *shades)))


def tokenizer() -> Any:
    """One token a word or a mark, capitals matter; one `<bos>` is put in front, other words are `<unk>`."""
    from transformers import PreTrainedTokenizerFast

    from workbench.reference_models.tokenizer import build_cased_tokenizer

    pad, bos, eos, unk = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=build_cased_tokenizer(vocabulary()), pad_token=pad, bos_token=bos, eos_token=eos,
        unk_token=unk, model_max_length=CONTEXT, padding_side="left", clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        name_or_path="planted", add_bos_token=True,  # the bridge asks for both, lest it loads the tokenizer anew
    )  # fmt: skip
