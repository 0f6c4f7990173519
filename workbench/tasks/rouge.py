"""ROUGE-1 recall on Porter stems: how much of an answer's words a response holds."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import snowballstemmer

_PORTER = snowballstemmer.stemmer("porter")
UNSTEMMED = 3
"""Words up to this length are left as they are, as in ROUGE."""


def words(text: str) -> list[str]:
    """Lower-cased stems; what is neither letter nor digit parts words.

    On ASCII text these are ROUGE's tokens. ROUGE drops all other letters; here they stay, or no answer in another
    script could be accepted.
    """
    return [_stem(w) if len(w) > UNSTEMMED else w for w in re.sub(r"[\W_]+", " ", text.lower()).split()]


@lru_cache(1 << 14)
def _stem(word: str) -> str:
    return _PORTER.stemWord(word)


def rouge_recall(answer: str, response: str) -> float:
    """Share of the answer's words that stand in the response, each as often as it stands there."""
    want, have = Counter(words(answer)), Counter(words(response))
    return sum(min(n, have[w]) for w, n in want.items()) / max(1, sum(want.values()))
