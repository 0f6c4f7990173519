"""Where a ranking is cut into full and streaming heads: by a stated rule, with its ties and margin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from workbench.errors import BadInput
from workbench.exporters.balance import balanced, per_rank
from workbench.exporters.cutting import Cutting
from workbench.head_sets import HeadSet
from workbench.heads import HeadScores
from workbench.progress import progress
from workbench.recall_cut import Told, smallest_list


@dataclass(frozen=True, eq=False)
class Cut:
    """Which heads stay full (they read the whole cache), and how clear the line is.

    rule: in words. ties: heads left out though they equal the last one kept. margin: lowest score kept minus highest
    left out, None if one side is empty. unscored: heads without a score, kept full because told to. per_rank: full
    heads of each tensor-parallel rank. moved: heads that balancing the ranks took in (+) and left out (-). facts: what
    else the rule found out.
    """

    full: Bool[np.ndarray, "layers heads"]
    rule: str
    ties: int
    margin: float | None
    unscored: int
    per_rank: tuple[int, ...] = ()
    moved: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of streaming heads: the number that loaders need beside a 0/1 file."""
        return float(1 - self.full.mean())

    def to_json(self) -> dict[str, Any]:
        """All but the pattern itself; what does not apply is left out."""
        kept = {name: getattr(self, name) for name in ("rule", "ties", "margin", "unscored")}
        counts = {"full": int(self.full.sum()), "streaming": int((~self.full).sum()), "sparsity": self.sparsity}
        ranks = {"per_rank": self.per_rank, "moved": self.moved} if len(self.per_rank) > 1 else {}
        return {**kept, **counts, **ranks, **self.facts}


def cut(scores: HeadScores, how: Cutting, told: Told | None = None) -> Cut:
    """Keep full what the rule of `how` keeps; heads without a score stay full, and count in every share.

    told: for recall=, what the model still tells with lists of heads of `scores` full. Raises BadInput for a rule that
    cannot be met.
    """
    full = ~scores.scored
    unscored = int(full.sum())
    chosen, rule, facts = _choose(scores, how, told)
    margin, ties, moved = _margin(scores, chosen), chosen.ambiguous, ()
    if how.balance:
        grow = how.rule() in ("threshold", "recall")
        before, chosen = chosen, balanced(scores, chosen, full, how.ranks, grow)
        moved = tuple(f"+{h}" for h in chosen if h not in before) + tuple(f"-{h}" for h in before if h not in chosen)
        rule += f", then {'heads added' if grow else 'heads exchanged'} until {how.ranks} ranks hold equally many"
    for head in chosen:
        full[head] = True
    ranks = per_rank(full, how.ranks) if how.ranks > 1 else ()
    if how.context is not None:
        facts = {**facts, "context": how.context, "kv_share": kv_share(full, how)}
    return Cut(full, rule, ties, margin, unscored, ranks, moved, facts)


def kv_share(full: Bool[np.ndarray, "layers heads"], how: Cutting) -> float:
    """Kept key-value entries over all, at `how.context` tokens: streaming heads hold sink and recent ones."""
    assert how.context is not None
    return float(full.mean() + (1 - full.mean()) * min(1, how.window / how.context))


def _choose(scores: HeadScores, how: Cutting, told: Told | None) -> tuple[HeadSet, str, dict[str, Any]]:
    rules: dict[str, Callable[[], tuple[HeadSet, str, dict[str, Any]]]] = {
        "threshold": lambda: _by_threshold(scores, how),
        "sparsity": lambda: _by_sparsity(scores, how),
        "budget": lambda: _by_budget(scores, how),
        "recall": lambda: _by_recall(scores, how, told),
    }
    return rules[how.rule()]()


def _by_threshold(scores: HeadScores, how: Cutting) -> tuple[HeadSet, str, dict[str, Any]]:
    line = how.line(scores)
    return scores.at_least(line), f"score >= {line:g}", {}


def _by_sparsity(scores: HeadScores, how: Cutting) -> tuple[HeadSet, str, dict[str, Any]]:
    assert how.sparsity is not None
    size, missing = scores.values.size, int((~scores.scored).sum())
    room = size - round(size * how.sparsity) - missing
    if room < 0:
        raise BadInput(f"sparsity={how.sparsity:g} leaves no room for the {missing} heads without a score: lower it")
    return scores.top(room), f"the {room} best of {size} (ties by {_ties(scores)})", {}


def _by_budget(scores: HeadScores, how: Cutting) -> tuple[HeadSet, str, dict[str, Any]]:
    """The most full heads whose cache fits: full heads hold all entries, the others sink and recent ones."""
    assert how.budget is not None and how.context is not None
    size, missing = scores.values.size, int((~scores.scored).sum())
    least = min(1.0, how.window / how.context)
    share = (how.budget - least) / (1 - least) if least < 1 else 1.0
    room = int(np.floor(size * share + 1e-9)) - missing
    if how.budget < least or room < 0:
        held = least + (1 - least) * missing / size
        raise BadInput(f"budget={how.budget:g}: sinks and windows alone are {held:.3g} at {how.context:,} tokens")
    rule = f"the {room} best of {size}: as many as {how.budget:g} of the cache holds (ties by {_ties(scores)})"
    return scores.top(room), rule, {"budget": how.budget}


def _by_recall(scores: HeadScores, how: Cutting, told: Told | None) -> tuple[HeadSet, str, dict[str, Any]]:
    assert how.recall is not None
    if told is None:
        raise BadInput(f"recall={how.recall:g} needs the model that is to be served: give model=")
    with progress() as stages:
        found = smallest_list(scores, how.recall, told, stages.stage("lists asked"))
    rule = f"the {found.k} best: the fewest with recall >= {how.recall:g} by the lower 95 % bound (ties by {_ties(scores)})"
    return scores.top(found.k), rule, {"recall": found.to_json()}


def _ties(scores: HeadScores) -> str:
    return "(layer, head)" if scores.tiebreak is None else "second score, then (layer, head)"


def _margin(scores: HeadScores, chosen: HeadSet) -> float | None:
    rest = scores.rank()[len(chosen) :]
    return float(scores.ranking[chosen.heads[-1]] - scores.ranking[rest[0]]) if len(chosen) and rest else None
