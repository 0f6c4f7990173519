"""Does the circuit of one task do the other? Head circuits, all positions, MLPs kept, on prompts that found neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.circuits import Place
from workbench.controls import p_value
from workbench_analyses.circuits.ablated import Ablated
from workbench_analyses.circuits.faithfulness import Faithfulness, RandomCircuits, faithfulness
from workbench_analyses.circuits.reuse_chance import layer_shuffles
from workbench_analyses.circuits.reuse_sides import Side


@dataclass(frozen=True)
class Row:
    """A set of heads that is kept, by what it is."""

    name: str
    size: int
    found: Faithfulness
    randoms: RandomCircuits | None = None


@dataclass(frozen=True)
class Transfer:
    """What sets of heads do of a task alone. The other's circuit stands against random ones with its heads a layer."""

    task: str
    n: int
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row | None:
        """The row of that name, if that set is not empty."""
        return next((row for row in self.rows if row.name == name), None)


OWN, OTHER, BOTH = "own circuit", "the other's circuit", "shared heads"


def transfer(ablated: Ablated, task: str, own: Side, other: Side, controls: int, seed: int) -> Transfer:
    """ablated: the model on prompts of the own task. Empty sets have no row."""
    mine, theirs = own.heads("union"), other.heads("union")
    sets: dict[str, set[Place]] = {
        OWN: mine, OTHER: theirs, BOTH: mine & theirs, "own without shared": mine - theirs,
        "the other's without shared": theirs - mine, "all heads but own": _rest(ablated, mine),
        "all heads but the other's": _rest(ablated, theirs),
    }  # fmt: skip
    rows = [_row(ablated, name, sorted(heads), controls, seed) for name, heads in sets.items() if heads]
    return Transfer(task, len(ablated.prompts), tuple(rows))


def _rest(ablated: Ablated, heads: set[Place]) -> set[Place]:
    return set(ablated.without(sorted(heads))) if heads else set()


def _row(ablated: Ablated, name: str, heads: Sequence[Place], controls: int, seed: int) -> Row:
    found = faithfulness(ablated, heads, seed)
    randoms = dealt_circuits(ablated, heads, found.share, controls, seed) if name == OTHER and controls else None
    return Row(name, len(heads), found, randoms)


def dealt_circuits(
    ablated: Ablated, heads: Sequence[Place], share: float, draws: int, seed: int
) -> RandomCircuits:  # fmt: skip
    """Faithfulness of the same circuit with its heads dealt anew within their layers: the null of the overlaps.

    A draw may hold heads of the circuit; in a small model no others are left in some layers.
    """
    model = ablated.model
    deals = layer_shuffles((model.n_layers, model.n_heads), draws, seed)
    lists = [sorted((layer, int(deal[layer, head])) for layer, head in heads) for deal in deals]
    shares = ablated.shares(ablated(lists)).tolist()
    return RandomCircuits(tuple(shares), False, p_value(share, shares))
