"""How good a circuit is: faithful, complete, minimal, better than random ones, and found in a good order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.circuits import Place
from workbench.errors import BadInput
from workbench_analyses.circuits.ablated import Ablated
from workbench_analyses.circuits.completeness import Removal, completeness, greedy_set
from workbench_analyses.circuits.curves import Curve
from workbench_analyses.circuits.faithfulness import Faithfulness, RandomCircuits, faithfulness, random_circuits
from workbench_analyses.circuits.minimality import Needed, minimality


@dataclass(frozen=True)
class Quality:
    """The measures of one circuit under one ablation; plain values, so `dataclasses.asdict` is fit for JSON.

    curves: filled in by whoever ranks heads (`performance_curves`).
    """

    faithfulness: Faithfulness
    randoms: RandomCircuits
    completeness: tuple[Removal, ...]
    minimality: tuple[Needed, ...]
    curves: tuple[Curve, ...] = ()

    @property
    def idle(self) -> tuple[Place, ...]:
        """Heads of the circuit that move less than minimality asks for."""
        return tuple(one.head for one in self.minimality if not one.minimal)

    @property
    def incomplete(self) -> Removal:
        """The removal that sets circuit and model farthest apart."""
        return max(self.completeness, key=lambda r: r.share)


def circuit_quality(
    ablated: Ablated,
    heads: Sequence[Place],
    groups: Mapping[str, Sequence[Place]],
    controls: int = 99,
    seed: int = 0,
    **search: Any,
) -> Quality:
    """All measures but the curves. groups: the circuit's heads by stage or role (`groups_of`). controls: random
    circuits. search: randoms, steps, candidates of `completeness`. Raises BadInput for an empty circuit."""
    if not heads:
        raise BadInput("the circuit has no heads, so there is nothing to measure")
    removals = completeness(ablated, heads, groups, seed=seed, **search)
    return Quality(
        faithfulness(ablated, heads, seed),
        random_circuits(ablated, heads, controls, seed),
        removals,
        minimality(ablated, heads, groups, greedy_set(removals)),
    )
