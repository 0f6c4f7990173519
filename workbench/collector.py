"""What probes need of a forward, asked of every attention call and hook, and what they read, kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.budget import budget_of
from workbench.errors import BadInput, TooLarge, Unsupported
from workbench.masks import CompactMask
from workbench.probes.probe import Found, Probe
from workbench.sizes import amount


class Collector:
    """Asks what the probes need of one forward at a time, and keeps what they read: one mapping per forward in `calls`."""

    def __init__(
        self, model: Any, probes: Sequence[Probe], memory: int | str | None = None, grad: bool = False
    ) -> None:  # fmt: skip
        self.probes = {p.name: p for p in probes}
        if len(self.probes) < len(probes):
            raise BadInput("two probes of one name: tell them apart with name=")
        self.model, self.grad, self.memory = model, grad, budget_of(model, memory)
        self.part: tuple[slice, int] | None = None  # which rows of how many the next forward has; None: all
        self.calls: list[dict[str, Any]] = []
        self.found: dict[str, dict[int, Found]] = {}
        without = [f"{p.name} ({p.no_grad})" for p in probes if grad and p.no_grad]
        if without:
            raise Unsupported(f"grad=True: {', '.join(without)} has no gradients: observe it without grad=True")

    def begin(self) -> None:
        """A new forward."""
        if self.grad and not torch.is_grad_enabled():
            raise BadInput("grad=True under torch.no_grad(), as in generate: call the model where autograd records")
        self.found = {name: {} for name in self.probes}

    def requests(self, mask: CompactMask) -> list[tuple[Reductions, list[Probe]]]:
        """Requests of one attention call, as few as can be: one for whole rows, one for each choice of rows.

        The probes of one request hide the same keys.
        """
        out: list[tuple[Reductions, list[Probe]]] = []
        mask = self._own(mask)
        for probe in self.probes.values():
            if probe.asks is None:
                continue
            asked = replace(probe.asks(mask), grad=self.grad)
            self._size(probe, asked, mask, mask.batch)
            for i, (request, members) in enumerate(out):
                joint = _joint(request, asked) if members[0].hides is probe.hides else None
                if joint is not None:
                    out[i] = (joint, [*members, probe])
                    break
            else:
                out.append((asked, [probe]))
        return out

    def read(self, layer: int, probes: Sequence[Probe], stats: Statistics, mask: CompactMask) -> None:
        """One layer's answer to one request."""
        for probe in probes:
            assert probe.reads is not None
            self.found[probe.name][layer] = probe.reads(stats, self._own(mask))

    def hooks(self) -> list[tuple[str, Any]]:
        """TransformerLens hooks of the probes of activations."""
        out = []
        for probe in self.probes.values():
            if probe.hook is None:
                continue
            known = [
                i for i in range(self.model.n_layers) if f"blocks.{i}.{probe.hook[0]}" in self.model.bridge.hook_dict
            ]
            if not known:
                raise BadInput(f"{probe.name}: this model has no hook blocks.*.{probe.hook[0]}")
            out += [(f"blocks.{i}.{probe.hook[0]}", self._keep(probe, i)) for i in known]
        return out

    def _keep(self, probe: Probe, layer: int) -> Any:
        assert probe.hook is not None
        reduce = probe.hook[1]

        def hook(x: Tensor, hook: Any) -> None:
            self.found[probe.name][layer] = {"": reduce(self.model, x if self.grad else x.detach())}

        return hook

    def end(self) -> None:
        """The forward is over: stack the layers."""
        call = {}
        for name, layers in self.found.items():
            if layers:
                call[name] = self.probes[name].gathers(_stacked(layers, self.model.n_layers))
        if call:
            self.calls.append(call)

    def sizes(self, mask: CompactMask, apart: bool) -> tuple[list[int], list[int]]:
        """Bytes of the probes of attention for one call: what is kept of all layers; what of one layer is made less.

        apart: rows may run one at a time, so that only one needs room for what is not kept. What hooks keep of
        activations is not counted. Raises TooLarge where it is more than may be.
        """
        asking = [(p, p.asks(mask)) for p in self.probes.values() if p.asks is not None]
        both = [self._size(probe, want, mask, 1 if apart else mask.batch) for probe, want in asking]
        return [kept for kept, _ in both], [passing for _, passing in both]

    def _own(self, mask: CompactMask) -> CompactMask:
        """The mask, which then knows which rows of the batch it is for."""
        return mask if self.part is None else replace(mask, part=self.part)

    def _size(self, probe: Probe, want: Reductions, mask: CompactMask, at_once: int) -> tuple[int, int]:
        """Bytes kept of all layers, and of one layer those of which `reads` leaves a part. at_once: rows of these."""
        numbers, picture = (each * self.model.n_heads for each in _of_head(want, mask))
        kept = (math.ceil(numbers * probe.leaves) + picture) * mask.batch * self.model.n_layers
        passing = numbers if probe.leaves < 1 else 0
        size = kept + passing * at_once
        if size > self.memory:
            raise TooLarge(
                f"{probe.name}: {amount(size)} for {mask.queries:,} queries, limit {amount(self.memory)}: "
                "choose rows, reduce='mean', or raise memory="
            )
        return kept, passing * mask.batch


def _of_head(want: Reductions, mask: CompactMask) -> tuple[int, int]:
    """Bytes of what one head of one row gives in one layer: numbers by query, key and span; its picture."""
    rows = mask.queries if want.rows is None else want.rows.shape[1]
    spans = 0 if want.spans is None else want.spans.shape[1]
    lists = 0 if want.matches is None else want.matches.keys.shape[1]
    each = want.entropy + want.norms + want.lse + want.sink_mass + 2 * want.moments + lists + len(want.offsets)
    each += want.profile * (1 + mask.keys.bit_length())
    numbers = 4 * each * mask.queries + 4 * want.received * mask.keys + rows * (12 * want.top_k + 4 * spans)
    return numbers, 8 * want.thumbnail**2


def _joint(a: Reductions, b: Reductions) -> Reductions | None:
    """One request for both; None where their rows, keys or spans differ."""
    chosen = [r for r in (a, b) if r.top_k or r.spans is not None]
    if len(chosen) == 2:
        same = a.rows is b.rows or (a.rows is not None and b.rows is not None and torch.equal(a.rows, b.rows))
        if not same or (a.top_k and b.top_k and a.top_k != b.top_k) or (a.spans is not None and b.spans is not None):
            return None
    one = chosen[0] if chosen else a
    flags = {f.name: getattr(a, f.name) or getattr(b, f.name) for f in fields(a) if f.name not in ("rows", "spans")}
    flags["thumbnail"] = max(a.thumbnail, b.thumbnail)
    if a.thumbnail and b.thumbnail and a.thumbnail != b.thumbnail:
        return None
    if a.offsets and b.offsets and a.offsets != b.offsets:
        return None
    if a.matches is not None and b.matches is not None and a.matches is not b.matches:
        return None
    return replace(one, **flags, spans=a.spans if a.spans is not None else b.spans)


def _stacked(layers: Mapping[int, Found], n_layers: int) -> dict[str, Tensor]:
    """[layers, batch, …] by suffix, on the device of the first layer; what a layer does not give is NaN."""
    out = {}
    for suffix in next(iter(layers.values())):
        example = next(iter(layers.values()))[suffix]
        parts = {i: found[suffix].to(example.device) for i, found in layers.items()}
        if len(parts) == n_layers:
            out[suffix] = torch.stack([parts[i] for i in range(n_layers)])
            continue
        missing = torch.full(example.shape, float("nan"), device=example.device)
        out[suffix] = torch.stack([parts[i].to(missing.dtype) if i in parts else missing for i in range(n_layers)])
    return out
