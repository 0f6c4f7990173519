"""Published circuits as answer keys: what of them a trace finds, and what it finds beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.circuits import Circuit, Place
from workbench.errors import BadInput


@dataclass(frozen=True)
class Key:
    """A published circuit: heads by role, of a model of this shape."""

    name: str
    source: str
    shape: tuple[int, int]
    task: str
    roles: dict[str, tuple[Place, ...]]

    @property
    def heads(self) -> frozenset[Place]:
        """All heads."""
        return frozenset(h for heads in self.roles.values() for h in heads)


PUBLISHED = {
    "gpt2-ioi": Key(
        "gpt2-ioi", "GPT-2 small, Wang et al. 2022, arXiv 2211.00593", (12, 12), "ioi",
        {
            "name mover": ((9, 9), (10, 0), (9, 6)),
            "backup name mover": ((10, 10), (10, 6), (10, 2), (10, 1), (11, 2), (9, 7), (9, 0), (11, 9)),
            "negative name mover": ((10, 7), (11, 10)),
            "S-inhibition": ((7, 3), (7, 9), (8, 6), (8, 10)),
            "induction": ((5, 5), (5, 8), (5, 9), (6, 9)),
            "duplicate token": ((0, 1), (0, 10), (3, 0)),
            "previous token": ((2, 2), (4, 11)),
        },
    )
}  # fmt: skip


@dataclass(frozen=True)
class AgainstKey:
    """found: heads of the key that the trace names, by its role there, with their roles here. beside: other heads."""

    key: Key
    rows: tuple[tuple[str, Place, bool, str, float], ...]
    beside: tuple[Place, ...]

    @property
    def recall(self) -> float:
        """Share of the key that was found."""
        return sum(row[2] for row in self.rows) / len(self.rows)

    @property
    def precision(self) -> float:
        """Share of what was found that is in the key; 1 where nothing was."""
        found = sum(row[2] for row in self.rows)
        return found / (found + len(self.beside)) if found or self.beside else 1.0

    @property
    def words(self) -> str:
        """In a line."""
        found = sum(row[2] for row in self.rows)
        return (
            f"{found} of the {len(self.rows)} heads of the published circuit are found, {len(self.beside)} beside them"
        )


def check_key(name: str, model: Any, task: str) -> None:
    """Raises BadInput for another task or a model (or circuit) of another shape than the key's."""
    key, shape = PUBLISHED[name], (model.n_layers, model.n_heads)
    if shape != key.shape or task != key.task:
        own = f"{shape[0]} × {shape[1]} heads, task {task}"
        raise BadInput(f"key={name} is of {key.shape[0]} × {key.shape[1]} heads, task {key.task}; this is {own}")


def against_key(circuit: Circuit, name: str) -> AgainstKey:
    """Compare with a published circuit. Raises BadInput like `check_key`."""
    check_key(name, circuit, circuit.task)
    key = PUBLISHED[name]
    roles, ranks = circuit.roles(), circuit.ranks()
    rows = [
        (role, head, head in circuit.nodes, ", ".join(roles.get(head, ())), float(ranks[head]))
        for role, heads in key.roles.items()
        for head in heads
    ]
    return AgainstKey(key, tuple(rows), tuple(h for h in circuit.nodes if h not in key.heads))
