"""`planted-ioi`: a GPT-2 that does IOI and Colored Objects by circuits that are known head by head.

IOI: a duplicate-token head notes at S2 that the name stands twice; an inhibition head brings that to END; there the
mover says the other name, and a negative mover less of S. Colored Objects: a previous-token head notes the colour
before each object; at END a gatherer finds the object asked for, and the same mover says its colour. All other heads
are random. `build_circuit` makes others: where the heads sit, what tasks share, how sharp attention is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from workbench.errors import BadInput
from workbench.reference_models.planted import Planted, Roles

Place = tuple[int, int]
SHARED = ("early", "seeker", "mover")
"""Stages of which the two tasks may share the head: duplicate and previous token, inhibition and gatherer, movers."""


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
        stages, many = len(_stages(self)), self.kv_heads or self.heads
        if self.architecture not in ("gpt2", "llama") or self.early not in ("duplicate", "induction"):
            raise BadInput(
                f"architecture={self.architecture}, early={self.early}: use gpt2, llama; duplicate, induction"
            )
        if self.layers < stages:
            raise BadInput(f"layers={self.layers}: {stages} stages need as many")
        if self.heads % many or (self.architecture == "gpt2" and many != self.heads):
            raise BadInput(f"kv_heads={self.kv_heads}: must divide heads={self.heads}, and only a llama has fewer")
        if set(self.shared) - set(SHARED) or ("early" in self.shared and self.early == "induction"):
            raise BadInput(f"shared={self.shared}: use some of {', '.join(SHARED)}, early only with early=duplicate")
        most = max(sum(_times(self, roles) for roles in stage) for stage in _stages(self))
        if self.movers < 1 or most > many or (self.architecture == "gpt2" and self.heads < 6):
            raise BadInput(
                f"movers={self.movers}: at least 1, and a stage of {most} heads needs as many groups of heads"
            )


@dataclass(frozen=True)
class PlantedCircuit:
    """A circuit that was built: a Hugging Face model in float32, its tokenizer, and what each head does."""

    model: Any
    tokenizer: Any
    roles: Roles
    knobs: Knobs

    def bridge(self, dtype: Any = None, device: str = "cpu") -> Any:
        """A TransformerBridge on a copy of the model, which `workbench.load` takes. dtype: float32 if None."""
        import torch
        from transformer_lens.model_bridge import TransformerBridge

        entry = Planted("planted-circuit", "", lambda: (copy.deepcopy(self.model), self.tokenizer), self.roles)
        dtype = dtype or torch.float32
        parts = entry.parts(dtype, device)
        bridge = TransformerBridge.boot_transformers(entry.name, dtype=dtype, device=device, **parts)  # type: ignore[attr-defined]
        bridge.eval().requires_grad_(False)
        return bridge


def _stages(knobs: Knobs) -> list[list[tuple[str, ...]]]:
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


def _random_places(knobs: Knobs, rng: Any) -> dict[str, tuple[Place, ...]]:
    """Heads for all roles: stages in order, each head in a random layer of its stage's, in a group of its own."""
    stages = _stages(knobs)
    cuts = [0, *sorted(int(c) + 1 for c in rng.choice(knobs.layers - 1, len(stages) - 1, replace=False)), knobs.layers]
    size = knobs.heads // (knobs.kv_heads or knobs.heads)
    taken: set[Place] = set()  # groups
    out: dict[str, tuple[Place, ...]] = {}
    for stage, low, high in zip(stages, cuts, cuts[1:], strict=False):
        for roles in stage:
            here: list[Place] = []
            for _ in range(_times(knobs, roles)):
                free = [(i, g) for i in range(low, high) for g in range(knobs.heads // size) if (i, g) not in taken]
                layer, group = free[int(rng.integers(len(free)))]
                taken.add((layer, group))
                here.append((layer, group * size + int(rng.integers(size))))
            out |= dict.fromkeys(roles, tuple(sorted(here)))
    return out


def _rest(knobs: Knobs, places: Mapping[str, tuple[Place, ...]], rng: Any) -> dict[str, tuple[Place, ...]]:
    """The heads that have no role in a task: decoys, and idle ones which do nothing."""
    used = {head for heads in places.values() for head in heads}
    free = [h for h in ((i, j) for i in range(knobs.layers) for j in range(knobs.heads)) if h not in used]
    if knobs.decoys is not None:
        free = [free[int(i)] for i in rng.permutation(len(free))]
    decoys, idle = sorted(free[: knobs.decoys]), sorted(free[len(free) if knobs.decoys is None else knobs.decoys :])
    return {role: tuple(heads) for role, heads in (("decoy", decoys), ("idle", idle)) if heads}


def build_circuit(knobs: Knobs | None = None, places: Mapping[str, tuple[Place, ...]] | None = None) -> PlantedCircuit:
    """Wire a circuit. places: heads of the roles that tasks need; None draws them. Raises BadInput as `Knobs` does."""
    import numpy as np

    from workbench.reference_models.planted import ioi_heads as wire
    from workbench.reference_models.planted.ioi_decoys import add_decoys, add_mlps
    from workbench.reference_models.planted.ioi_frame import CircuitFrame
    from workbench.reference_models.planted.ioi_words import tokenizer

    knobs = knobs or Knobs()
    rng = np.random.default_rng(knobs.seed)
    own = _random_places(knobs, rng) if places is None else dict(places)
    roles = MappingProxyType({**own, **_rest(knobs, own, rng)})
    frame = CircuitFrame(knobs.architecture, knobs.layers, knobs.heads, knobs.kv_heads, knobs.beta)
    wire.says(frame)
    for done, heads in _wired(wire, roles, knobs.movers):
        for head in heads:
            done(frame, frame.head(head))
    if knobs.mlps:
        add_mlps(frame, knobs.seed)
    add_decoys(
        frame, roles.get("decoy", ()), {h for r in own for h in own[r]}, knobs.decoy_norm / knobs.movers, knobs.seed
    )
    return PlantedCircuit(frame.model, tokenizer(), roles, knobs)


def _wired(wire: Any, roles: Roles, movers: int) -> list[tuple[Any, tuple[Place, ...]]]:
    """Which function wires which heads; a head of two roles is wired once, as both."""
    both = {
        ("duplicate", "previous"): wire.duplicate_and_previous,
        ("inhibition", "gatherer"): wire.inhibition_and_gatherer,
        ("name-mover", "colour-mover"): partial(wire.name_and_colour_mover, gain=1 / movers),
    }
    alone = {
        "duplicate": wire.duplicate, "previous": wire.previous, "induction": wire.induction,
        "inhibition": wire.inhibition, "gatherer": wire.gatherer, "negative-mover": wire.negative_mover,
        "backup-mover": wire.backup_mover, "name-mover": partial(wire.name_mover, gain=1 / movers),
        "colour-mover": partial(wire.colour_mover, gain=1 / movers),
    }  # fmt: skip
    out = [(done, roles[a]) for (a, b), done in both.items() if a in roles and roles[a] == roles[b]]
    joined = {role for (a, b) in both if a in roles and roles[a] == roles[b] for role in (a, b)}
    return out + [(done, roles[role]) for role, done in alone.items() if role in roles and role not in joined]


_PLACES: dict[str, tuple[Place, ...]] = {
    "duplicate": ((0, 0),),
    "previous": ((0, 1),),
    "inhibition": ((1, 0),),
    "gatherer": ((1, 1),),
    "name-mover": ((2, 0),),
    "colour-mover": ((2, 0),),
    "negative-mover": ((2, 1),),
}
ROLES: Roles = MappingProxyType({**_PLACES, **_rest(Knobs(), _PLACES, None)})


def _build() -> tuple[Any, Any]:
    circuit = build_circuit(Knobs(), _PLACES)
    return circuit.model, circuit.tokenizer


PLANTED = Planted(
    "planted-ioi",
    "3 layers × 8 heads (gpt2 architecture); IOI and Colored Objects by known circuits that share a mover",
    _build,
    ROLES,
)
