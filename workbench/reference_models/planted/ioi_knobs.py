"""What a planted circuit is made like: its knobs, its stages, and where the heads of each may sit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import BadInput

Place = tuple[int, int]
SHARED = ("early", "seeker", "mover")
"""Stages of which the two tasks may share the head: duplicate and previous token, inhibition and gatherer, movers."""
FEWEST = 6
"""Heads of a GPT-2 whose width, a multiple of theirs, holds all blocks of the stream."""


@dataclass(frozen=True)
class Knobs:
    """What a planted circuit is made like.

    architecture: "gpt2" (LayerNorm) or "llama" (RMSNorm, rotary places; kv_heads: groups of heads share keys and
    values). beta: score of a match, in nats; the larger, the more saturated. movers: heads that share a mover's work.
    early: what finds the second S, "duplicate" or "induction" (then behind a previous-token head). shared: stages that
    both tasks do with one head. backup: a mover that works where the others do not. decoys: random heads; None: all
    that are free. decoy_norm: what one writes, in what a mover writes. mlps: random ones, which write where only decoys
    read. seed: of places and random weights.
    """

    architecture: str = "gpt2"
    layers: int = 3
    heads: int = 8
    kv_heads: int | None = None
    beta: float = 40.0
    movers: int = 1
    early: str = "duplicate"
    shared: tuple[str, ...] = ("mover",)
    backup: bool = False
    decoys: int | None = None
    decoy_norm: float = 0.1
    mlps: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise BadInput for what cannot be built."""
        least, many = len(stages(self)), self.kv_heads or self.heads
        if self.architecture not in ("gpt2", "llama") or self.early not in ("duplicate", "induction"):
            raise BadInput(
                f"architecture={self.architecture}, early={self.early}: use gpt2, llama; duplicate, induction"
            )
        if self.layers < least:
            raise BadInput(f"layers={self.layers}: {least} stages need as many")
        if self.heads % many or (self.architecture == "gpt2" and many != self.heads):
            raise BadInput(f"kv_heads={self.kv_heads}: must divide heads={self.heads}, and only a llama has fewer")
        if set(self.shared) - set(SHARED) or ("early" in self.shared and self.early == "induction"):
            raise BadInput(f"shared={self.shared}: use some of {', '.join(SHARED)}, early only with early=duplicate")
        most = max(sum(_times(self, roles) for roles in stage) for stage in stages(self))
        if self.heads < FEWEST:
            raise BadInput(f"heads={self.heads}: at least {FEWEST}, or the stream has no room")
        if self.movers < 1 or most > many:
            raise BadInput(
                f"movers={self.movers}: at least 1, and a stage of {most} heads needs as many groups of heads"
            )


def stages(knobs: Knobs) -> list[list[tuple[str, ...]]]:
    """The roles of each stage, in the order of the layers; roles in one tuple are done by the same head."""

    def of(stage: str, *roles: str) -> list[tuple[str, ...]]:
        return [roles] if stage in knobs.shared else [(r,) for r in roles]

    first = [("previous",)] if knobs.early == "induction" else of("early", "duplicate", "previous")
    second = [[("induction",)]] if knobs.early == "induction" else []
    last = [*of("mover", "name-mover", "colour-mover"), ("negative-mover",)]
    backup = [[("backup-mover",)]] if knobs.backup else []
    return [first, *second, of("seeker", "inhibition", "gatherer"), last, *backup]


def _times(knobs: Knobs, roles: tuple[str, ...]) -> int:
    """How many heads do these roles."""
    return knobs.movers if roles[0] in ("name-mover", "colour-mover") else 1


def random_places(knobs: Knobs, rng: Any) -> dict[str, tuple[Place, ...]]:
    """Heads for all roles: stages in order, each head in a random layer of its stage's, in a group of its own."""
    order = stages(knobs)
    cuts = [0, *sorted(int(c) + 1 for c in rng.choice(knobs.layers - 1, len(order) - 1, replace=False)), knobs.layers]
    size = knobs.heads // (knobs.kv_heads or knobs.heads)
    taken: set[Place] = set()  # groups
    out: dict[str, tuple[Place, ...]] = {}
    for stage, low, high in zip(order, cuts, cuts[1:], strict=False):
        for roles in stage:
            here: list[Place] = []
            for _ in range(_times(knobs, roles)):
                free = [(i, g) for i in range(low, high) for g in range(knobs.heads // size) if (i, g) not in taken]
                layer, group = free[int(rng.integers(len(free)))]
                taken.add((layer, group))
                here.append((layer, group * size + int(rng.integers(size))))
            out |= dict.fromkeys(roles, tuple(sorted(here)))
    return out


def rest(knobs: Knobs, places: Mapping[str, tuple[Place, ...]], rng: Any) -> dict[str, tuple[Place, ...]]:
    """The heads that have no role in a task: decoys, and idle ones which do nothing."""
    used = {head for heads in places.values() for head in heads}
    free = [h for h in ((i, j) for i in range(knobs.layers) for j in range(knobs.heads)) if h not in used]
    if knobs.decoys is not None:
        free = [free[int(i)] for i in rng.permutation(len(free))]
    many = len(free) if knobs.decoys is None else knobs.decoys
    decoys, idle = sorted(free[:many]), sorted(free[many:])
    return {role: tuple(heads) for role, heads in (("decoy", decoys), ("idle", idle)) if heads}
