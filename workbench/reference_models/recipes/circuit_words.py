"""The words of the `gpt2` reference model: what IOI and Colored Objects say, one token each, and little more."""

from __future__ import annotations

from workbench.reference_models.planted import ioi_words
from workbench.tasks import colored_objects, ioi

NAMES = ioi.NAMES[:40]
THINGS = colored_objects.OBJECTS
COLOURS = colored_objects.COLOURS
VOCABULARY = tuple(dict.fromkeys((*ioi_words.vocabulary(), "with", *NAMES, *THINGS)))
INDEX = {word: i for i, word in enumerate(VOCABULARY)}
PAD, BOS, EOS, UNK = range(4)
WORDS = tuple(w for w in VOCABULARY[4:] if w.isalpha())
