"""POPE: yes-or-no questions about objects that are there and that are not, and how answers are read and counted.

Li et al. 2023, arXiv 2305.10355. Absent objects are drawn at random, are the most popular ones, or (adversarial) those
that most often go with an object that is there. Rules as in the official script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.errors import BadInput, did_you_mean

STRATEGIES = ("random", "popular", "adversarial")
PAIRS_AN_IMAGE = 3
"""Objects that are there, each with one that is not."""
NO_WORDS = ("No", "not", "no")
YES_WORDS = ("Yes", "yes")


@dataclass(frozen=True)
class Question:
    """An object and whether it is in the image."""

    image: str
    object: str
    present: bool


@dataclass(frozen=True)
class Frequencies:
    """How often objects stand in images, and how often two stand together. Ties are broken by the word."""

    alone: Counter[str]
    together: dict[str, Counter[str]]

    @classmethod
    def of(cls, images: Iterable[Iterable[str]]) -> Frequencies:
        """Counts over the objects of images."""
        alone: Counter[str] = Counter()
        together: dict[str, Counter[str]] = {}
        for objects in map(set, images):
            alone.update(objects)
            for one in objects:
                together.setdefault(one, Counter()).update(objects - {one})
        return cls(alone, together)


def questions(
    images: Mapping[str, Sequence[str]], counts: Frequencies, strategy: str, n: int = PAIRS_AN_IMAGE, seed: int = 0
) -> list[Question]:
    """n questions about objects that are there and n about others, in turns; fewer where an image shows fewer.

    counts: of the images the habit comes from, which need not be these. Raises BadInput for another strategy.
    """
    if strategy not in STRATEGIES:
        raise BadInput(f"strategy={strategy}: {', '.join(STRATEGIES)}.{did_you_mean(strategy, STRATEGIES)}")
    out: list[Question] = []
    for i, (image, objects) in enumerate(images.items()):
        rng = np.random.default_rng([seed, i])
        present, taken = sorted(set(objects)), set(objects)
        for one in rng.permutation(present)[:n]:
            absent = [str(w) for w in rng.permutation(sorted(counts.alone.keys() - taken))]
            if not absent:
                break
            other = min(absent, key=_rank(counts, strategy, str(one)))
            taken.add(other)
            out += [Question(image, str(one), True), Question(image, other, False)]
    return out


def _rank(counts: Frequencies, strategy: str, present: str) -> Callable[[str], tuple[int, str]]:
    """What sorts absent objects; they come in random order, and the first of equal ones is taken."""
    if strategy == "random":
        return lambda word: (0, "")
    if strategy == "popular":
        return lambda word: (-counts.alone[word], word)
    beside = counts.together.get(present, Counter())
    return lambda word: (-beside[word], word if beside[word] else "")


@dataclass(frozen=True)
class Answer:
    """An answer as the official script reads it; parsed: its first sentence has a yes-word or a no-word."""

    yes: bool
    parsed: bool


def parse(text: str) -> Answer:
    """First sentence, commas removed: `No`, `not` or `no` among its words is no, anything else is yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    no = any(word in words for word in NO_WORDS)
    return Answer(not no, no or any(word in words for word in YES_WORDS))


@dataclass(frozen=True)
class Pope:
    """Figures over all answers, shares of one; nan where nothing was counted. yes_ratio: of the answers."""

    n: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float
    false_yes: float
    unparsed: float

    def summary(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def pope(answers: Sequence[Answer], asked: Sequence[Question]) -> Pope:
    """Counts answers against questions. false_yes: of the questions about absent objects. Raises BadInput for none."""
    if not asked or len(answers) != len(asked):
        raise BadInput(f"{len(answers)} answers to {len(asked)} questions")
    yes, present = np.array([a.yes for a in answers]), np.array([q.present for q in asked])
    hits, false = int((yes & present).sum()), int((yes & ~present).sum())
    return Pope(
        n=len(asked),
        accuracy=float((yes == present).mean()),
        precision=_share(hits, int(yes.sum())),
        recall=_share(hits, int(present.sum())),
        f1=_share(2 * hits, int(yes.sum() + present.sum())),
        yes_ratio=float(yes.mean()),
        false_yes=_share(false, int((~present).sum())),
        unparsed=float(np.mean([not a.parsed for a in answers])),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
