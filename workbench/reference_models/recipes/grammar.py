"""The little English that the reference models speak: words, sentences and a word-level vocabulary.

Everything is generated: word lists of our own, sentence frames with verb-noun and noun-adjective preferences, so
that prose has something to predict. The needle task uses the same sentences as its bundled haystack.
"""

from __future__ import annotations

import functools

import numpy as np

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)
FUNCTION = (
    "the a of is in to and with near on was are it , . ? : ; - ! question answer secret code what which "
    "remember word that from at for said by one two name number yes no not best thing do sit this"
).split()
NAMES = (
    "alice ben clara david emma frank grace henry ivy jack karen leo maria noah olive paul quinn rosa sam tina "
    "ursula victor wendy xavier yara zoe anna oscar nina felix lucy hugo"
).split()
PLACES = "river market castle harbor forest bridge village garden tower station valley temple".split()
NOUNS = (
    "lamp table horse letter boat coat apple mirror basket drum ladder bell candle hammer blanket bottle cart "
    "chair clock crown curtain door engine fence flute glove hat jar kettle key kite knife map needle net oven "
    "pencil piano pillow plate pot ring rope saddle sail shovel spoon stone sword tent torch trumpet vase wagon "
    "wheel whistle window box cup bag brush"
).split()
ADJECTIVES = (
    "old red small heavy bright broken wooden green silver quiet warm empty golden rusty clean soft narrow tall "
    "dusty blue sharp round thin smooth"
).split()
VERBS = (
    "carried found washed painted lifted sold bought moved opened closed cleaned watched dropped pushed pulled "
    "borrowed mended hid polished counted wrapped raised kicked touched"
).split()
RARE = (
    "amber anchor arrow badge banjo barley beacon beaver birch bison blossom bronze cactus camel canyon cedar "
    "cherry cinder clover cobalt comet copper coral cotton cricket crystal daisy desert dolphin dragon eagle "
    "ember falcon feather fennel fossil galaxy ginger glacier granite hazel heron honey indigo island ivory "
    "jasmine jasper juniper kernel lagoon lantern lava lemon lilac linen lotus magnet maple marble meadow meteor "
    "mint monsoon moss nectar nickel oasis ocean olivine onyx orchid otter oyster panther pearl pebble pepper "
    "phoenix pine planet prairie quartz rabbit raven reef ruby saffron salmon sapphire shadow sparrow spruce "
    "sugar sunset thunder tiger topaz tulip velvet violet walnut willow"
).split()
SYMBOLS = [*"bcdefghijklmnopqrstuvwxyz", *"0123456789"]  # the letter a is the article's token
VOCABULARY = (
    *SPECIAL, *FUNCTION, *NAMES, *PLACES, *NOUNS, *ADJECTIVES, *VERBS, *RARE, *SYMBOLS,
)  # fmt: skip
INDEX = {word: i for i, word in enumerate(VOCABULARY)}

STATEMENT = "the secret code of {name} is : {value} ."
QUESTION_FRAME = "question : {} answer :"
QUESTION = QUESTION_FRAME.format("what is the secret code of {name} ?")


def _zipf(n: int) -> np.ndarray:
    weights = 1 / np.arange(1, n + 1) ** 0.8
    return weights / weights.sum()


@functools.cache
def _preferences() -> tuple[np.ndarray, np.ndarray]:
    """Which adjectives a noun likes, and which nouns a verb likes: the bigram statistics of the prose."""
    rng = np.random.default_rng(3)
    return rng.choice(ADJECTIVES, (len(NOUNS), 4)), rng.choice(len(NOUNS), (len(VERBS), 8))


def sentence(rng: np.random.Generator) -> str:
    """One sentence of prose in one of four frames."""
    adjectives, objects = _preferences()
    first = rng.choice(len(NOUNS), p=_zipf(len(NOUNS)))
    verb = rng.integers(len(VERBS))
    second = objects[verb, rng.integers(8)]
    one, two = adjectives[first, rng.integers(4)], adjectives[second, rng.integers(4)]
    who, whom, where = rng.choice(NAMES), rng.choice(NAMES), rng.choice(PLACES)
    frames = (
        f"the {one} {NOUNS[first]} {VERBS[verb]} the {two} {NOUNS[second]} .",
        f"{who} {VERBS[verb]} a {two} {NOUNS[second]} near the {where} .",
        f"{who} and {whom} {VERBS[verb]} the {NOUNS[second]} in the {where} .",
        f"the {NOUNS[first]} of {who} was {one} and {VERBS[verb]} the {NOUNS[second]} .",
    )
    return frames[rng.integers(len(frames))]


def prose(rng: np.random.Generator, sentences: int) -> list[str]:
    """A run of independent sentences."""
    return [sentence(rng) for _ in range(sentences)]


def ids(text: str) -> np.ndarray:
    """Token ids of text whose words are separated by spaces; words outside the vocabulary raise KeyError."""
    return np.array([INDEX[word] for word in text.split()])
