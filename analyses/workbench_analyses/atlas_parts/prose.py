"""Generated prose that a vocabulary holds: that of the bundled models, tried in turn; for others the first of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from workbench.progress import counting
from workbench.reference_models.recipes import grammar
from workbench.tasks import ioi
from workbench.tasks.needle import Assembler
from workbench.tasks.scene_objects import OBJECTS
from workbench.tasks.scenes import caption

UNKNOWN = 0.02
"""Share of unknown tokens from which a text says little of a model, and the reader is told."""
TRIED = 100
"""Sentences that are looked at to choose."""


Writer = Callable[[np.random.Generator], str]


def _prose(assembler: Assembler) -> Writer:
    """Nouns, verbs and places."""
    return grammar.sentence


def _names(assembler: Assembler) -> Writer | None:
    """Somebody gives somebody something, as in IOI, in the words that the vocabulary holds."""
    names, places, things = ([w for w in pool if assembler.known(w)] for pool in (ioi.NAMES, ioi.PLACES, ioi.OBJECTS))
    every = {"S": "", "IO": "", "place": "", "object": ""}
    templates = [t for t in (*ioi.BABA, *ioi.ABBA) if assembler.known(t.format(**every))]
    if len(names) < 2 or not (places and things and templates):
        return None

    def write(rng: np.random.Generator) -> str:
        giver, taker = (str(x) for x in rng.choice(names, 2, replace=False))
        template, place, thing = (str(rng.choice(pool)) for pool in (templates, places, things))
        return f"{template.format(S=giver, IO=taker, place=place, object=thing)} {taker}."

    return write


def _captions(assembler: Assembler) -> Writer:
    """What is in a rendered scene."""
    return lambda rng: caption([str(x) for x in rng.choice(OBJECTS, int(rng.integers(1, 6)), replace=False)])


KINDS: dict[str, Callable[[Assembler], Writer | None]] = {
    "bundled generated prose": _prose,
    "generated sentences of names": _names,
    "generated captions": _captions,
}


def generated(
    assembler: Assembler, unknown: int | None, samples: int, room: int, seed: int
) -> tuple[list[list[int]], str]:
    """Texts of `room` tokens, each its own, and what they are. unknown: the id of tokens that are not known."""
    writers = {kind: writer for kind, make in KINDS.items() if (writer := make(assembler)) is not None}
    kind = next((k for k, w in writers.items() if _share(w, assembler, unknown, seed) < UNKNOWN), next(iter(writers)))
    texts = []
    for i in counting("texts drawn", samples):
        ids: list[int] = []
        for sentence in _sentences(writers[kind], assembler, np.random.default_rng([seed, 2, i])):
            ids += sentence
            if len(ids) >= room:
                break
        texts.append(ids[:room])
    return texts, kind


def _sentences(write: Writer, assembler: Assembler, rng: np.random.Generator) -> Iterator[list[int]]:
    return (ids for _, ids in assembler.pieces(write(rng) for _ in itertools.count()))


def _share(write: Writer, assembler: Assembler, unknown: int | None, seed: int) -> float:
    if unknown is None:
        return 0.0
    made = _sentences(write, assembler, np.random.default_rng([seed, 4]))
    ids = [t for _ in range(TRIED) for t in next(made)]
    return ids.count(unknown) / max(1, len(ids))
