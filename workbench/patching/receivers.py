"""Where a path ends: the logits, or chosen inputs, outputs and MLPs of later layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.errors import BadInput
from workbench.patching.chain import Place

CHANNELS = ("q", "k", "v", "z", "mlp")
FORM = "of ('q' | 'k' | 'v' | 'z', layer, head) and ('mlp', layer)"


@dataclass(frozen=True)
class Receivers:
    """heads: by (layer, channel) the heads that receive. mlps: layers whose MLP's output receives."""

    heads: dict[tuple[int, str], list[int]]
    mlps: frozenset[int]

    @property
    def places(self) -> list[Place]:
        """Where the changed stream is read for them."""
        attention = sorted({layer for layer, _ in self.heads})
        return [*(("attention", i) for i in attention), *(("mlp", i) for i in sorted(self.mlps))]

    @property
    def lowest(self) -> int:
        """The lowest layer that holds one."""
        return min(layer for _, layer in self.places)

    def of(self, layer: int) -> dict[str, list[int]]:
        """Heads of a layer by channel."""
        return {channel: heads for (at, channel), heads in self.heads.items() if at == layer}


def receivers_of(given: Any, model: Any) -> Receivers:
    """From a list of ("q" | "k" | "v" | "z", layer, head) and ("mlp", layer); k and v count key-value heads.

    Raises BadInput for what the model does not have.
    """
    if isinstance(given, str) or not given:
        raise BadInput(f"receivers={given!r}: give 'logits', or a list {FORM}")
    found: dict[tuple[int, str], list[int]] = {}
    mlps = set()
    for one in given:
        channel, layer, *head = _checked(one, model)
        if channel == "mlp":
            mlps.add(layer)
        elif head[0] not in found.setdefault((layer, channel), []):
            found[layer, channel] += head
    return Receivers(found, frozenset(mlps))


def _checked(one: Any, model: Any) -> tuple[Any, ...]:
    """One receiver. Raises BadInput for one that the model does not have."""
    channel, *numbers = one if isinstance(one, (tuple, list)) and one else (None,)
    if channel not in CHANNELS or len(numbers) != (1 if channel == "mlp" else 2):
        raise BadInput(f"receiver {one!r}: give a list {FORM}")
    layer, *head = map(int, numbers)
    count = model.n_kv_heads if channel in ("k", "v") else model.n_heads
    if not 0 <= layer < model.n_layers or (head and not 0 <= head[0] < count):
        of = f" of {count} {'key-value ' * (channel in ('k', 'v'))}heads" if head else ""
        raise BadInput(f"receiver {one}: the model has {model.n_layers} layers{of}")
    return (channel, layer, *head)
