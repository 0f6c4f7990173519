"""Is every head of the circuit there for something?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.circuits import Place
from workbench.errors import BadInput
from workbench_analyses.circuits.ablated import Ablated

LEAST = 0.01
"""Share of F(M) that a head must move, for some K (Wang et al. 2022, section 4.2)."""


@dataclass(frozen=True)
class Needed:
    """The largest change that a head makes: |F(C∖(K∪{v})) − F(C∖K)| / |F(M)|, over the sets K that were tried.

    F: mean logit difference. removed: that K. by: what it is, "nothing", the name of a group, or "greedy".
    """

    head: Place
    change: float
    removed: tuple[Place, ...]
    by: str

    @property
    def minimal(self) -> bool:
        """Whether it moves enough to belong."""
        return self.change >= LEAST


def minimality(
    ablated: Ablated,
    heads: Sequence[Place],
    groups: Mapping[str, Sequence[Place]],
    greedy: Sequence[Place] = (),
) -> tuple[Needed, ...]:
    """Of each head of the circuit, for K = nothing, the others of each group that it is in, and the greedy set.

    A head whose work another does shows only where that one is gone, too: hence the groups. greedy: what
    `completeness` found worst. Raises BadInput where the model's mean logit difference is zero.
    """
    chosen, whole = tuple(sorted(set(heads))), abs(float(ablated.whole.mean()))
    if not whole:
        raise BadInput("the mean logit difference is 0: no share of it can be said")
    named: dict[str, Sequence[Place]] = {"nothing": (), **groups, "greedy": greedy}
    sets = [
        (v, name, tuple(h for h in chosen if h in set(group) and h != v))
        for v in chosen
        for name, group in named.items()
        if name in ("nothing", "greedy") or v in group
    ]
    with_v = ablated([tuple(h for h in chosen if h not in gone) for _, _, gone in sets])
    without = ablated([tuple(h for h in chosen if h not in (*gone, v)) for v, _, gone in sets])
    changes = np.abs((without - with_v).mean(1)) / whole
    best: dict[Place, Needed] = {}
    for (v, name, gone), change in zip(sets, changes.tolist(), strict=True):
        if v not in best or change > best[v].change:
            best[v] = Needed(v, change, gone, name)
    return tuple(best.values())
