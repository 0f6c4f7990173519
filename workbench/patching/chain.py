"""What a sender's change becomes on its way up the layers while every other head keeps its clean output.

With all heads frozen, attention moves nothing between positions, so that the stream of a column evolves by itself: it is
the clean stream plus one vector per sender. Norms and MLPs are recomputed on that sum, never linearised.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from workbench.patching.recording import Recording
from workbench.patching.wiring import Wiring, check

Senders = Literal["heads", "mlps", "embeddings", "all"]
"""`all`: the receivers get the whole corrupted run, as one sender."""
Place = tuple[Literal["attention", "mlp", "final"], int]
"""Where a change is read: in what the norm before attention reads, in what the MLP's reads, behind the last block."""
Read = Callable[[Place, Float[Tensor, "s b d"]], None]


@dataclass
class Chain:
    """Changes of the stream at one column per batch row. live: MLPs answer to the change, else they are frozen."""

    wirings: list[Wiring]
    clean: Recording
    corrupted: Recording
    senders: Senders
    live: bool
    reads: list[Float[Tensor, "b d"]] = field(init=False)  # what each MLP reads in the clean run
    writes: list[Float[Tensor, "b d"]] = field(init=False)

    def __post_init__(self) -> None:
        self.reads, self.writes = [], []
        for wiring in self.wirings:
            resid, write = mlp_of(wiring, self.clean)
            self.reads.append(resid)
            self.writes.append(write)

    @property
    def shape(self) -> tuple[int, ...]:
        """Axes of the senders: (layers, heads), (layers,) or (); a head's number runs along its layer first."""
        layers = len(self.wirings)
        heads = self.clean.z[0].shape[1]
        return {"heads": (layers, heads), "mlps": (layers,), "embeddings": (), "all": ()}[self.senders]

    def upto(self, places: Collection[Place]) -> int:
        """How many senders, from the first, are not above all these places."""
        ends: list[int] = []
        for kind, layer in places:
            attention = layer + (kind == "mlp" and not self.wirings[layer].parallel)  # attention layers below the place
            ends.append(attention * self.shape[1] if self.senders == "heads" else layer)
        return max(ends) if self.shape else 1

    def run(self, senders: range, places: Collection[Place], read: Read) -> None:
        """Carry the changes of some senders upwards and hand them over at the places, [senders, batch, d]."""
        if self.senders == "all":
            for place in places:
                read(place, self._whole(place)[None])
            return
        first, pending = self.clean.resid[0], set(places)
        change = first.new_zeros(len(senders), *first.shape)
        if self.senders == "embeddings":
            change[0] = self.corrupted.resid[0] - first
        for layer, wiring in enumerate(self.wirings):
            self._give(("attention", layer), pending, change, read)
            if not pending:
                return
            if not wiring.parallel:
                self._add_heads(layer, senders, change)
            self._give(("mlp", layer), pending, change, read)
            if not pending:
                return
            moved = change[: self._started(layer, senders, with_own=not wiring.parallel)]
            if self.live and len(moved):
                moved += wiring.mlp_write(self.reads[layer] + moved) - self.writes[layer]
            if wiring.parallel:
                self._add_heads(layer, senders, change)
            if self.senders == "mlps" and layer in senders:
                change[layer - senders.start] = mlp_of(wiring, self.corrupted)[1] - self.writes[layer]
        self._give(("final", len(self.wirings)), pending, change, read)

    def _whole(self, place: Place) -> Float[Tensor, "b d"]:
        """The corrupted stream minus the clean one."""
        kind, layer = place
        change = self.corrupted.resid[layer] - self.clean.resid[layer]
        if kind == "mlp" and not self.wirings[layer].parallel:
            write = self.wirings[layer].attention_write
            change = change + write(self.corrupted.z[layer]) - write(self.clean.z[layer])
        return change

    def _give(self, place: Place, pending: set[Place], change: Tensor, read: Read) -> None:
        if place in pending:
            read(place, change)
            pending.remove(place)

    def _add_heads(self, layer: int, senders: range, change: Float[Tensor, "s b d"]) -> None:
        if self.senders != "heads":
            return
        heads, z, other = self.shape[1], self.clean.z[layer], self.corrupted.z[layer]
        start, stop = max(senders.start, layer * heads), min(senders.stop, (layer + 1) * heads)
        if start < stop:
            own = slice(start - layer * heads, stop - layer * heads)
            change[start - senders.start : stop - senders.start] = self.wirings[layer].head_deltas(z, other, own)

    def _started(self, layer: int, senders: range, with_own: bool) -> int:
        """How many of the senders have changed the stream that the layer's MLP reads."""
        if self.senders == "embeddings":
            return 1
        stop = (layer + with_own) * self.shape[1] if self.senders == "heads" else layer
        return min(max(stop - senders.start, 0), len(senders))


def mlp_of(wiring: Wiring, run: Recording) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
    """What the MLP of a layer reads and writes in a run. Raises Unsupported where the model has another wiring."""
    layer = wiring.layer
    before, mid = run.resid[layer], run.resid[layer] + wiring.attention_write(run.z[layer])
    resid = before if wiring.parallel else mid
    write = wiring.mlp_write(resid)
    check(layer, mid + write, run.resid[layer + 1], before)
    return resid, write
