"""What any method must beat: captions made shorter, or rid of unsure words, without a look at attention."""

from __future__ import annotations

import math

from workbench.tasks.object_words import Words
from workbench.visual_methods.saying import Said

UNSURE = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Probabilities below which object words are dropped."""
STEPS = 16
"""Biases of the end that are tried."""


def truncated(text: str, words: int) -> str:
    """The first words of a caption."""
    return " ".join(text.split()[:words])


def ended(said: Said, bias: float) -> str:
    """What greedy decoding says where the logits of stop tokens are raised by `bias`: the caption up to its first token
    that a stop token then overtakes, for the order of all others stays."""
    stop = next((i for i, away in enumerate(said.away) if away < bias), len(said.away))
    return said.text[: said.ends[stop - 1]] if stop else ""


def biases(captions: list[Said]) -> tuple[float, ...]:
    """Biases at which shares of all tokens are overtaken, evenly spaced, the least first."""
    away = sorted(x for said in captions for x in said.away)
    places = (round(i * (len(away) - 1) / STEPS) for i in range(1, STEPS + 1))
    return tuple(dict.fromkeys(away[i] for i in places)) if away else ()


def without_unsure(said: Said, least: float, words: Words) -> str:
    """A caption without the object words that had a lower probability; other words stay."""
    text = said.text
    for mention in reversed(words.mentions(said.text)):
        if math.exp(said.log_probability(mention.start, mention.end)) < least:
            text = text[: mention.start] + text[mention.end :]
    return text


def lengths(captions: list[str]) -> tuple[int, ...]:
    """All lengths at which a caption can be cut, the longest first; every so many words where there are more than 40."""
    longest = max(len(text.split()) for text in captions)
    step = max(1, -(-longest // 40))
    return tuple(range(longest - 1, 0, -step))
