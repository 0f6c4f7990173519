"""Where a ranking is cut into full and streaming heads: by a stated rule, with its ties and margin."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from workbench.errors import BadInput
from workbench.head_sets import HeadSet
from workbench.heads import HeadScores


@dataclass(frozen=True, eq=False)
class Cut:
    """Which heads stay full (they read the whole cache), and how clear the line is.

    rule: in words. ties: heads left out though they equal the last one kept. margin: lowest score kept minus
    highest left out, None if one side is empty. unscored: heads without a score, kept full because told to.
    """

    full: Bool[np.ndarray, "layers heads"]
    rule: str
    ties: int
    margin: float | None
    unscored: int

    @property
    def sparsity(self) -> float:
        """Share of streaming heads: the number that loaders need beside a 0/1 file."""
        return float(1 - self.full.mean())

    def to_json(self) -> dict[str, Any]:
        """All but the pattern itself."""
        facts = {name: value for name, value in asdict(self).items() if name != "full"}
        return {**facts, "full": int(self.full.sum()), "streaming": int((~self.full).sum()), "sparsity": self.sparsity}


def cut(scores: HeadScores, sparsity: float | None, threshold: float) -> Cut:
    """Keep the share 1 - sparsity of all heads, or, without sparsity, those that reach the threshold.

    Heads without a score stay full, and count in the share. Raises BadInput if sparsity is not in [0, 1]
    or leaves no room for them.
    """
    full = ~scores.scored
    unscored = int(full.sum())
    if sparsity is None:
        chosen, rule = scores.at_least(threshold), f"score >= {threshold:g}"
    else:
        if not 0 <= sparsity <= 1:
            raise BadInput(f"sparsity={sparsity:g} is a share of streaming heads: give 0 to 1")
        room = full.size - round(full.size * sparsity) - unscored
        if room < 0:
            raise BadInput(f"sparsity={sparsity:g} leaves no room for the {unscored} heads without a score: lower it")
        chosen = scores.top(room)
        rule = f"the {room} best of {full.size} (ties by {_ties(scores)})"
    for head in chosen:
        full[head] = True
    return Cut(full, rule, chosen.ambiguous, _margin(scores, chosen), unscored)


def _ties(scores: HeadScores) -> str:
    return "(layer, head)" if scores.tiebreak is None else "second score, then (layer, head)"


def _margin(scores: HeadScores, chosen: HeadSet) -> float | None:
    rest = scores.rank()[len(chosen) :]
    return float(scores.ranking[chosen.heads[-1]] - scores.ranking[rest[0]]) if len(chosen) and rest else None
