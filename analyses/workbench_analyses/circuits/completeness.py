"""Does the model do what the circuit does when parts of both are taken out? Heads that stand in for others show here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.bootstrap import percentile_interval
from workbench.circuits import Circuit, Place
from workbench_analyses.circuits.ablated import DRAWS, Ablated


@dataclass(frozen=True)
class Removal:
    """Heads K taken out of the circuit C and out of the model M (Wang et al. 2022, section 4.1).

    by: "stage" (or role; name says which), "random" or "greedy". circuit, model: F(C∖K), F(M∖K), mean logit differences.
    difference: the first less the second, with its 95 % bootstrap interval over prompts. share: its size in parts of
    m(M) − m(∅): 0 where the circuit is complete.
    """

    by: str
    name: str
    removed: tuple[Place, ...]
    circuit: float
    model: float
    difference: float
    low: float
    high: float
    share: float


def groups_of(circuit: Circuit) -> dict[str, tuple[Place, ...]]:
    """Heads of a circuit by stage, and those that only ablation shows; groups of no head are left out."""
    out = {stage.name: tuple(sorted(h.head for h in circuit.in_stage(stage.name))) for stage in circuit.stages}
    out["needed only"] = tuple(sorted(set(circuit.needed) - set(circuit.carrying)))
    return {name: heads for name, heads in out.items() if heads}


def completeness(
    ablated: Ablated,
    heads: Sequence[Place],
    groups: Mapping[str, Sequence[Place]],
    randoms: int = 10,
    steps: int = 10,
    candidates: int = 10,
    seed: int = 0,
) -> tuple[Removal, ...]:
    """Nothing removed, each group of the circuit, random halves of it, and what a greedy search finds worst.

    steps: heads that the search removes, at most; candidates: random heads tried for each, as in the paper. Groups keep
    only heads of the circuit.
    """
    chosen, rng = tuple(sorted(set(heads))), np.random.default_rng(seed)
    sets: list[tuple[str, str, tuple[Place, ...]]] = [("stage", "nothing", ())]
    sets += [("stage", name, tuple(h for h in chosen if h in set(group))) for name, group in groups.items()]
    for i in range(randoms):
        taken = rng.random(len(chosen)) < 0.5
        sets.append(("random", f"half {i + 1}", tuple(h for h, gone in zip(chosen, taken, strict=True) if gone)))
    sets.append(("greedy", "worst found", _greedy(ablated, chosen, steps, candidates, rng)))
    return tuple(_removal(ablated, chosen, *one, seed) for one in sets)


def greedy_set(removals: Sequence[Removal]) -> tuple[Place, ...]:
    """What the greedy search took out."""
    return next((r.removed for r in removals if r.by == "greedy"), ())


def _greedy(
    ablated: Ablated, chosen: tuple[Place, ...], steps: int, candidates: int, rng: np.random.Generator
) -> tuple[Place, ...]:
    """Remove, again and again, the head that sets circuit and model farthest apart; the worst set on the way."""
    gone: tuple[Place, ...] = ()
    seen: dict[tuple[Place, ...], float] = {gone: float(_apart(ablated, chosen, [gone])[0])}
    for _ in range(min(steps, len(chosen))):
        left = [h for h in chosen if h not in gone]
        tried = [left[int(i)] for i in rng.permutation(len(left))[:candidates]]
        apart = _apart(ablated, chosen, [(*gone, h) for h in tried])
        gone = (*gone, tried[int(np.argmax(apart))])
        seen[gone] = float(apart.max())
    return tuple(sorted(max(seen, key=lambda k: seen[k])))


def _pair(ablated: Ablated, chosen: Sequence[Place], gone: Sequence[Sequence[Place]]) -> tuple[np.ndarray, np.ndarray]:
    """Differences of C∖K and of M∖K, [sets, n] each."""
    found = ablated([tuple(h for h in chosen if h not in k) for k in gone] + [ablated.without(k) for k in gone])
    return found[: len(gone)], found[len(gone) :]


def _apart(ablated: Ablated, chosen: Sequence[Place], gone: Sequence[Sequence[Place]]) -> np.ndarray:
    circuit, model = _pair(ablated, chosen, gone)
    return np.abs((circuit - model).mean(1))


def _removal(
    ablated: Ablated, chosen: Sequence[Place], by: str, name: str, gone: tuple[Place, ...], seed: int
) -> Removal:
    circuit, model = (x[0] for x in _pair(ablated, chosen, [gone]))
    low, high = percentile_interval((circuit - model)[:, None], None, 0.95, DRAWS, seed)
    difference = float((circuit - model).mean())
    return Removal(
        by, name, gone, float(circuit.mean()), float(model.mean()), difference, float(low[0]), float(high[0]),
        abs(difference / ablated.gap),
    )  # fmt: skip
