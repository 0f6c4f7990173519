"""What a probe is: what it asks of every attention call, or of an activation as it fires, and how it reads the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.looking import Seen
from workbench.masks import CompactMask

Found = dict[str, Tensor]
"""Tensors of one layer by suffix ("" for the probe's own name), batch axis first."""
Hides = Callable[[Seen], Bool[Tensor, "b #h k"]]
"""From what a layer's heads look at to the keys of each (or of all alike) that are left out."""


class TopKeys(NamedTuple):
    """The largest weights of each row and the columns of their keys, [layers, batch, heads, rows, k]."""

    values: Float[Tensor, "layers b h r k"]
    indices: Int[Tensor, "layers b h r k"]


@dataclass(frozen=True)
class Probe:
    """A statistic of a forward pass; each file of this folder makes one.

    asks: the reductions of one attention call. reads: what they gave, as tensors with the batch axis first.
    hook: a hook point of every block (after `blocks.i.`) and what its activation is reduced to as it fires.
    hides: says which keys the probe does without; it then reads the pattern with their weights set to 0 and nothing
    given to the others, and `Statistics.left_out` says which they are.
    joins: the axis of the result (layers first) along which the calls of a generation are joined; None: kept apart.
    gathers: from the stacked tensors by suffix to what the user gets.
    no_grad: why its numbers carry no gradients; None where they can.
    parts: what it says of a row does not depend on the rows beside it, and what it knows by row it asks of
    `CompactMask.own`: a batch may then run in parts.
    leaves: the share of what was asked that `reads` leaves; 0 for so little (a mean, a count) that it counts as nothing kept.
    """

    name: str
    asks: Callable[[CompactMask], Reductions] | None = None
    reads: Callable[[Statistics, CompactMask], Found] | None = None
    hides: Hides | None = None
    hook: tuple[str, Callable[[Any, Tensor], Tensor]] | None = None
    joins: int | None = None
    gathers: Callable[[Mapping[str, Tensor]], Any] = field(default=lambda found: found[""])
    no_grad: str | None = None
    parts: bool = False
    leaves: float = 1.0

    def __post_init__(self) -> None:
        """A probe observes attention or an activation, not both and not nothing."""
        if self.hides is not None and self.asks is None:
            raise ValueError(f"probe {self.name!r}: hides is for probes that ask")
        if (self.asks is None) == (self.hook is None) or (self.asks is None) != (self.reads is None):
            raise ValueError(f"probe {self.name!r}: give asks and reads, or a hook")
