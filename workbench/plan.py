"""What one forward is asked: edits and reductions per layer, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor
from workbench_kernels import AttentionSpec, HeadEdits, Reductions, Statistics

from workbench.budget import MEMORY
from workbench.looking import Look
from workbench.masks import CompactMask

if TYPE_CHECKING:
    from workbench.interventions.compiling import Compiled


Attention = Callable[[int, Tensor, Tensor, Tensor, AttentionSpec], Tensor]
"""(layer, q, k, v, spec) → outputs, [batch, heads, queries, head_dim]; q, k and v are after rotary embedding."""


@dataclass
class Plan:
    """What one forward is asked: edits and reductions per layer; what it found."""

    edits: Compiled | None = None
    reductions: Callable[[int, CompactMask], Reductions | None] | None = None
    found: dict[int, list[Statistics]] = field(default_factory=dict)
    memory: int = MEMORY  # bytes that the whole patterns of one layer may take
    kept: slice | None = None  # rows of the query axis whose logits are wanted; None: all
    observers: tuple[Any, ...] = ()  # collectors of `observing`
    attention: Attention | None = None  # computes the heads' outputs in the place of `attend`
    backend: str = "auto"  # see workbench.backends

    def edits_of(self, layer: int, mask: CompactMask, look: Look) -> list[HeadEdits]:
        """The edits of a layer, one list entry per set of query rows. look: for those that must find their keys first."""
        return [] if self.edits is None else self.edits(layer, mask, look)
