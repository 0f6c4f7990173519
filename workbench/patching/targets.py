"""From a changed stream to a changed logit difference: read at once, or through receivers and a decode of the suffix."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from workbench_kernels import AttentionSpec

from workbench.errors import Unsupported
from workbench.patching.chain import Place
from workbench.patching.columns import take
from workbench.patching.readout import Readout
from workbench.patching.receivers import Receivers
from workbench.patching.recording import Recording
from workbench.patching.suffix_attention import Columns, attend_suffix
from workbench.patching.wiring import Wiring
from workbench.plan import Attention, Plan


class Logits:
    """The receiver is the stream behind the last block: only a change at the last column is seen."""

    def __init__(self, clean: Recording, readout: Readout) -> None:
        self.clean, self.readout = clean, readout
        self.places: list[Place] = [("final", len(clean.z))]
        self.base = readout(clean.resid[-1])
        self.effects = torch.empty(0)

    def read(self, place: Place, change: Float[Tensor, "s b d"]) -> None:
        """Take the changes of some senders."""
        effects = self.readout(self.clean.resid[-1] + change) - self.base
        self.effects = effects * (self.clean.columns == self.clean.ends)

    def take(self, senders: int) -> Float[Tensor, "s b"]:
        """The effects of the senders that were read."""
        return self.effects


class Suffix:
    """Receivers hold what they got; everything that can differ is computed anew, from the layer on where recording began.

    Below it nothing differs; before the patched column nothing differs either, so that the clean keys and values serve.
    """

    def __init__(
        self, model: Any, wirings: list[Wiring], clean: Recording, receivers: Receivers, readout: Readout
    ) -> None:
        self.model, self.wirings, self.clean, self.receivers, self.readout = model, wirings, clean, receivers, readout
        self.places = receivers.places
        self.columns = Columns.between(clean.columns, clean.ends)
        self.point = Columns.between(clean.columns, clean.columns)
        self.held: dict[tuple[int, str], Float[Tensor, "s b *rest"]] = {}
        assert clean.stream is not None
        self.stream: Float[Tensor, "b m d"] = take(clean.stream, self.columns.index)
        self.base = self._baseline()

    def read(self, place: Place, change: Float[Tensor, "s b d"]) -> None:
        """What the receivers of a place get from changes of the stream at the patched column."""
        kind, layer = place
        if kind == "mlp":
            wiring, before = self.wirings[layer], self.clean.resid[layer]
            resid = before if wiring.parallel else before + wiring.attention_write(self.clean.z[layer])
            self.held[layer, "mlp"] = wiring.mlp_write(resid + change)
            return
        x = (self.clean.resid[layer] + change).flatten(0, 1)[:, None]
        wanted, senders = self.receivers.of(layer), len(change)

        def attention(_: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
            found = {"q": q, "k": k, "v": v}
            if "z" in wanted:
                found["z"] = attend_suffix(q, k, v, self.clean.layers[layer], self.point, spec)
            for channel, heads in wanted.items():
                self.held[layer, channel] = found[channel][:, heads, 0].unflatten(0, (senders, -1))
            return torch.zeros_like(q)

        self._attention(layer, x, self.point.index, attention)

    def take(self, senders: int) -> Float[Tensor, "s b"]:
        """The effects of the senders whose changes were read."""
        return self._logit_diff(senders) - self.base

    def _baseline(self) -> Float[Tensor, " b"]:
        """The same computation for a sender that changes nothing; it must give what the model says."""
        for place in self.places:
            self.read(place, torch.zeros_like(self.clean.resid[0])[None])
        base, own = self._logit_diff(1)[0], self.readout(self.clean.final)
        eps = torch.finfo(self.clean.final.dtype).eps
        off = float((base - own).abs().max())
        if not off <= max(1024 * eps, 1e-5) * (1 + float(self.clean.logits.abs().max())):
            raise Unsupported(f"this model's attention cannot be resumed at a column (off by {off:.1e})")
        return base

    def _logit_diff(self, senders: int) -> Float[Tensor, "s b"]:
        x = self.stream.expand(senders, *self.stream.shape).flatten(0, 1)
        end = (self.clean.ends - self.clean.columns).repeat(senders)[:, None]
        for wiring in self.wirings[self.clean.lowest :]:
            layer = wiring.layer
            out = self._attention(layer, x, self.columns.index, self._patched(layer, senders))
            out = wiring.from_heads(out)
            if wiring is self.wirings[-1] and layer not in self.receivers.mlps:  # only the last column counts from here
                x, out, end = take(x, end), take(out, end), torch.zeros_like(end)
            write = wiring.mlp_write(x if wiring.parallel else x + out)
            if layer in self.receivers.mlps:
                write[:, 0] = self.held[layer, "mlp"].flatten(0, 1)
            x = x + out + write
        return self.readout(take(x, end)[:, 0].unflatten(0, (senders, -1)))

    def _patched(self, layer: int, senders: int) -> Attention:
        """Attention of a layer with what its receivers hold in the place of what it computes."""
        wanted = self.receivers.of(layer)

        def attention(_: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
            for channel, x in (("q", q), ("k", k), ("v", v)):
                if channel in wanted:
                    x[:, wanted[channel], 0] = self.held[layer, channel].flatten(0, 1)
            z = attend_suffix(q, k, v, self.clean.layers[layer], self.columns, spec)
            if "z" in wanted:
                z[:, wanted["z"], 0] = self.held[layer, "z"].flatten(0, 1)
            return z

        return attention

    def _attention(
        self, layer: int, x: Float[Tensor, "sb m d"], columns: Int[Tensor, "b m"], attention: Attention
    ) -> Float[Tensor, "sb m d"]:
        """The attention layer on some columns, called as the model calls it."""
        positional, kwargs = self.clean.call[layer]
        n, runs = self.clean.layers[layer].keys.shape[2], len(x) // len(columns)
        given = {name: cut(value, columns, n, runs) for name, value in kwargs.items()}
        x, module = self.wirings[layer].attention_input(x), self.model.seam.layers[layer]
        with self.model.seam.on(Plan(attention=attention)):
            out = module(x, **given) if positional else module(hidden_states=x, **given)
        return out[0] if isinstance(out, tuple) else out


def cut(value: Any, columns: Int[Tensor, "b m"], n: int, runs: int) -> Any:
    """What was said of the n columns of a prompt, for some of them, repeated for the runs; other things as they are."""
    if isinstance(value, tuple):
        return tuple(cut(one, columns, n, runs) for one in value)
    if isinstance(value, Tensor) and value.dim() > 1 and value.shape[1] == n and value.shape[0] in (1, len(columns)):
        return take(value, columns).repeat(runs, *[1] * (value.dim() - 1))
    return value
