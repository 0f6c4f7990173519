"""CHAIR: how often captions name objects that are not in the picture; beside it what a lower CHAIR may have cost.

Rohrbach et al. 2018, arXiv 1809.02156. Of two captions that invent equally little, the one that repeats itself or names
little is worse: recall, length, unique words and repeated sentences belong to the number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.errors import BadInput
from workbench.tasks.object_words import Mention, Words, object_words

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class Caption:
    """What a model said of an image; image: the name under which its objects are known."""

    image: str
    text: str


@dataclass(frozen=True)
class Judged:
    """One caption: what it names, which of it is not there (`invented`), and counts.

    mentions: with repetitions. objects: in the picture. words: of the text; unique_words: different ones; sentences and
    repeated: sentences, and how many of them the caption had said before.
    """

    image: str
    text: str
    mentions: tuple[Mention, ...]
    objects: frozenset[str]
    words: int
    unique_words: int
    sentences: int
    repeated: int

    @property
    def invented(self) -> tuple[Mention, ...]:
        """Mentions of objects that are not in the picture."""
        return tuple(m for m in self.mentions if m.object not in self.objects)

    @property
    def named(self) -> frozenset[str]:
        """Different objects that the caption names."""
        return frozenset(m.object for m in self.mentions)


@dataclass(frozen=True)
class Chair:
    """Figures over all captions, shares of one; nan where nothing was counted.

    chair_s: captions with an invented object. chair_i: invented mentions of all mentions. chair_i_distinct: the same,
    each object once a caption. recall: objects of the pictures that are named. precision: named objects that are there
    (1 − chair_i_distinct). length: words a caption. unique_words: different words of a caption's words, mean over
    captions. repeated_sentences: sentences that the caption had said before.
    """

    captions: int
    chair_s: float
    chair_i: float
    chair_i_distinct: float
    recall: float
    precision: float
    f1: float
    length: float
    unique_words: float
    repeated_sentences: float

    def summary(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def judge(captions: Iterable[Caption], truth: Mapping[str, Iterable[str]], words: Words | None = None) -> list[Judged]:
    """Each caption against what is in its image.

    truth: objects of each image, by words of the table. words: the table, COCO's where none is given. Raises BadInput
    for an image that is not in `truth`, and for an object that is not in the table.
    """
    words, out = words or object_words(), []
    sets = {image: _objects(image, objects, words) for image, objects in truth.items()}
    for caption in captions:
        if caption.image not in sets:
            raise BadInput(f"image {caption.image}: nothing is known of what it shows")
        out.append(_judged(caption, sets[caption.image], words))
    return out


def chair(judged: Sequence[Judged]) -> Chair:
    """The figures of judged captions. Raises BadInput where there is none."""
    if not judged:
        raise BadInput("no caption to score")
    mentions = sum(len(j.mentions) for j in judged)
    named, shown = sum(len(j.named) for j in judged), sum(len(j.objects) for j in judged)
    right = sum(len(j.named & j.objects) for j in judged)
    precision, recall = _share(right, named), _share(right, shown)
    return Chair(
        captions=len(judged),
        chair_s=_share(sum(bool(j.invented) for j in judged), len(judged)),
        chair_i=_share(sum(len(j.invented) for j in judged), mentions),
        chair_i_distinct=_share(named - right, named),
        recall=recall,
        precision=precision,
        f1=_share(2 * right, named + shown),
        length=sum(j.words for j in judged) / len(judged),
        unique_words=float(np.mean([_share(j.unique_words, j.words) for j in judged if j.words] or [np.nan])),
        repeated_sentences=_share(sum(j.repeated for j in judged), sum(j.sentences for j in judged)),
    )


def _objects(image: str, objects: Iterable[str], words: Words) -> frozenset[str]:
    given = {" ".join(str(o).lower().split()) for o in objects}
    for one in sorted(given - words.objects.keys()):
        raise BadInput(f"image {image}: {one!r} is no word of the table of objects")
    return frozenset(words.objects[one] for one in given)


def _judged(caption: Caption, objects: frozenset[str], words: Words) -> Judged:
    said = _WORD.findall(caption.text.lower())
    sentences = [" ".join(_WORD.findall(s.lower())) for s in _SENTENCE_END.split(caption.text)]
    sentences = [s for s in sentences if s]
    return Judged(
        image=caption.image, text=caption.text, mentions=tuple(words.mentions(caption.text)), objects=objects,
        words=len(said), unique_words=len(set(said)), sentences=len(sentences),
        repeated=len(sentences) - len(set(sentences)),
    )  # fmt: skip


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
