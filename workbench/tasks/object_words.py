"""Which objects a text names: words brought to their singular, double words first, synonyms to one word an object.

The rules are those of CHAIR's script (Rohrbach et al. 2018, arXiv 1809.02156); the table of synonyms is our own, and
another one can be given. A word is brought to the singular only if that makes it one of the table's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from workbench.errors import BadInput
from workbench.untrusted import text_of

BUNDLED = Path(__file__).with_name("coco_objects.txt")
ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub".split()
VEHICLES = ("jet", "train")
IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "policemen": "policeman", "policewomen": "policewoman",
    "firemen": "fireman", "fishermen": "fisherman", "gentlemen": "gentleman", "servicemen": "serviceman",
    "geese": "goose", "mice": "mouse", "oxen": "ox", "wives": "wife",
}  # fmt: skip
ENDINGS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""), ("ies", "ie"))
"""Endings of plurals and what stands in their place."""
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


@dataclass(frozen=True)
class Mention:
    """An object in a text. word: as the table has it. object: the table's first word. start, end: characters."""

    word: str
    object: str
    start: int
    end: int


@dataclass(frozen=True)
class Words:
    """A table: what each word, or several words, stand for."""

    objects: dict[str, str]

    @cached_property
    def doubles(self) -> dict[tuple[str, ...], str]:
        """Words that stand together and the one that they are treated as; it need not be in the table."""
        out = {tuple(name.split()): name for name in self.objects if " " in name}
        out |= {(age, animal): animal for age in ("baby", "adult") for animal in ANIMALS}
        out |= {("passenger", vehicle): vehicle for vehicle in VEHICLES}
        return out | {("bow", "tie"): "tie", ("toilet", "seat"): "toilet", ("home", "plate"): "home plate"}

    @cached_property
    def known(self) -> frozenset[str]:
        """Single words that mean something here."""
        return frozenset({*(w for parts in self.doubles for w in parts), *(w for w in self.objects if " " not in w)})

    def singular(self, word: str) -> str:
        """The known word of which this is a form, or the word."""
        if word in self.known:
            return word
        cut = (word.removesuffix(end) + new for end, new in ENDINGS if word.endswith(end))
        return next((w for w in (IRREGULAR.get(word, word), *cut) if w in self.known), word)

    def mentions(self, text: str) -> list[Mention]:
        """All mentions, in order; a repeated one each time."""
        found = list(self._merged(text))
        toilet = any(word == "toilet" for word, *_ in found)
        return [
            Mention(word, self.objects[word], start, end)
            for word, start, end in found
            if word in self.objects and not (toilet and word == "seat")  # the seat of a toilet is no chair
        ]

    def _merged(self, text: str) -> Iterator[tuple[str, int, int]]:
        """Words and double words with their characters; the longest double word first."""
        parts = [(self.singular(part), start, end) for part, start, end in _split(text)]
        longest = max(map(len, self.doubles))
        i = 0
        while i < len(parts):
            for n in range(longest, 0, -1):
                words = tuple(word for word, *_ in parts[i : i + n])
                if n == 1 or (len(words) == n and words in self.doubles):
                    break
            yield self.doubles.get(words, words[0]), parts[i][1], parts[i + n - 1][2]
            i += n


def _split(text: str) -> Iterator[tuple[str, int, int]]:
    """Lower-cased words without the `'s` of a possessive; double words may be written with a hyphen."""
    for whole in _WORD.finditer(text.lower()):
        if whole.group() == "s" and text[max(0, whole.start() - 1) : whole.start()] in ("'", "’"):
            continue
        start = whole.start()
        for part in whole.group().split("-"):
            yield part, start, start + len(part)
            start += len(part) + 1


@lru_cache(8)
def object_words(path: str | Path | None = None) -> Words:
    """The bundled table of COCO's 80 objects, or the user's: a line an object, its name first, commas between synonyms.

    Raises BadInput for a file that cannot be read and for a word of two objects.
    """
    try:
        lines = text_of(path or BUNDLED).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"synonyms={path}: cannot be read ({error})") from None
    objects: dict[str, str] = {}
    for i, line in enumerate(lines, 1):
        names = [" ".join(name.split()).lower() for name in line.split(",") if name.strip()]
        for name in names:
            if objects.setdefault(name, names[0]) != names[0]:
                raise BadInput(f"{path}:{i}: {name!r} stands for {objects[name]!r} already")
    if not objects:
        raise BadInput(f"synonyms={path}: no word in it; a line an object, its name first, commas between synonyms")
    return Words(objects)
