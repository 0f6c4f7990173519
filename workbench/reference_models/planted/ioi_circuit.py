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

from workbench.reference_models.planted import Planted, Roles
from workbench.reference_models.planted.ioi_knobs import Knobs, Place, random_places, rest


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


def build_circuit(knobs: Knobs | None = None, places: Mapping[str, tuple[Place, ...]] | None = None) -> PlantedCircuit:
    """Wire a circuit. places: heads of the roles that tasks need; None draws them. Raises BadInput as `Knobs` does."""
    import numpy as np

    from workbench.reference_models.planted import ioi_heads as wire
    from workbench.reference_models.planted.ioi_decoys import add_decoys, add_mlps
    from workbench.reference_models.planted.ioi_frame import CircuitFrame
    from workbench.reference_models.planted.ioi_words import tokenizer

    knobs = knobs or Knobs()
    rng = np.random.default_rng(knobs.seed)
    own = random_places(knobs, rng) if places is None else dict(places)
    roles = MappingProxyType({**own, **rest(knobs, own, rng)})
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
ROLES: Roles = MappingProxyType({**_PLACES, **rest(Knobs(), _PLACES, None)})


def _build() -> tuple[Any, Any]:
    circuit = build_circuit(Knobs(), _PLACES)
    return circuit.model, circuit.tokenizer


PLANTED = Planted(
    "planted-ioi",
    "3 layers × 8 heads (gpt2 architecture); IOI and Colored Objects by known circuits that share a mover",
    _build,
    ROLES,
)
