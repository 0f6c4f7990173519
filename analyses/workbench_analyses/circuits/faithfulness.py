"""How much of the task a set of heads does alone, and how much random sets of the same layers do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.circuits import Place
from workbench.controls import matched_lists, p_value
from workbench_analyses.circuits.ablated import DRAWS, Ablated

QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Faithfulness:
    """Share of what all heads do that these do alone: (m(C) − m(∅)) / (m(M) − m(∅)), m the mean logit difference.

    share: the ratio of means, with its 95 % bootstrap interval over prompts. quartiles: of the ratio prompt by prompt
    (Miller et al. 2024, arXiv 2407.08734: the two disagree); undefined: prompts where the heads move nothing. whole,
    nothing, alone: m(M), m(∅), m(C) in logits. how: what heads outside gave.
    """

    heads: tuple[Place, ...]
    how: str
    n: int
    share: float
    low: float
    high: float
    quartiles: tuple[float, float, float]
    undefined: int
    whole: float
    nothing: float
    alone: float


def faithfulness(ablated: Ablated, heads: Sequence[Place], seed: int = 0, draws: int = DRAWS) -> Faithfulness:
    """Of a set of heads, all positions, MLPs kept. Raises BadInput for a head that the model lacks."""
    found = ablated([heads])
    resampled = ablated.resampled_shares(found, seed, draws)[:, 0]
    low, high = (float(x) for x in np.quantile(resampled, [0.025, 0.975]))
    each = ablated.whole - ablated.nothing
    there = each != 0
    ratios = (found[0] - ablated.nothing)[there] / each[there]
    first, median, third = (float(x) for x in np.quantile(ratios, QUARTILES))
    return Faithfulness(
        tuple(sorted(set(heads))), ablated.how, len(each), float(ablated.shares(found)[0]), low, high,
        (first, median, third), int((~there).sum()), float(ablated.whole.mean()), float(ablated.nothing.mean()),
        float(found[0].mean()),
    )  # fmt: skip


@dataclass(frozen=True)
class RandomCircuits:
    """Faithfulness of random sets with as many heads in each layer, none of the circuit's.

    p: (1 + sets at least as faithful) / (1 + sets); None where a layer has too few other heads for any set. enumerated:
    these are all the sets there are.
    """

    shares: tuple[float, ...]
    enumerated: bool
    p: float | None


def random_circuits(ablated: Ablated, heads: Sequence[Place], draws: int = 99, seed: int = 0) -> RandomCircuits:
    """Layer-matched random sets against a circuit."""
    lists, enumerated = matched_lists(tuple(sorted(set(heads))), ablated.heads, draws, seed)
    if not lists:
        return RandomCircuits((), False, None)
    own, *shares = ablated.shares(ablated([heads, *lists])).tolist()
    return RandomCircuits(tuple(shares), enumerated, p_value(own, shares))
