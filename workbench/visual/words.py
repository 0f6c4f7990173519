"""Words of captions that name objects: at which token each is said, and whether the object is in the picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from workbench.errors import BadInput
from workbench.tasks.object_words import Words, object_words


class Word(NamedTuple):
    """A word of caption `row`, whose first token is its token number `step`. invented: the object is not there."""

    row: int
    step: int
    object: str
    invented: bool


def text_of(tokenizer: Any, ids: Iterable[int]) -> str:
    """A caption as it is judged: special tokens left out, nothing else changed."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def spoken(
    tokenizer: Any, ids: Iterable[int], there: Iterable[str], words: Words | None = None, row: int = 0
) -> list[Word]:
    """Every mention of an object in a caption, in order. ids: its tokens. there: words of what the picture shows.

    A word of several tokens counts at its first: the others follow from it. words: the table, COCO's if not given.
    Raises BadInput for an object that is not in the table.
    """
    words, ids = words or object_words(), list(ids)
    unknown = sorted(set(there) - words.objects.keys())
    if unknown:
        raise BadInput(f"{unknown[0]!r} is no word of the table of objects")
    objects = {words.objects[w] for w in there}
    ends = [len(text_of(tokenizer, ids[: i + 1])) for i in range(len(ids))]
    out = []
    for mention in words.mentions(text_of(tokenizer, ids)):
        step = next(i for i, end in enumerate(ends) if end > mention.start)
        out.append(Word(row, step, mention.object, mention.object not in objects))
    return out
