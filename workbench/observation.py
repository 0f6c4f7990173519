"""Observe: statistics of attention and activations, collected while the model runs, no N×N tensor anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.collector import MEMORY, Collector
from workbench.errors import BadInput
from workbench.probes.probe import Probe


class Observation(Mapping[str, Any]):
    """What the probes found, by probe name; layers without softmax attention are NaN.

    calls: one mapping per forward. Indexing joins the calls of a generation along their queries where that has a
    meaning, and otherwise asks for `calls`.
    """

    def __init__(self, probes: Mapping[str, Probe], calls: list[dict[str, Any]]) -> None:
        self.probes, self.calls = probes, calls

    def __getitem__(self, name: str) -> Any:
        probe, calls = self.probes[name], [c[name] for c in self.calls]
        if not calls:
            raise BadInput(f"{name}: nothing was observed; call the model inside the context")
        if len(calls) == 1:
            return calls[0]
        if probe.joins is None:
            raise BadInput(f"{name}: {len(calls)} calls cannot be joined; read them one by one from .calls")
        if isinstance(calls[0], Tensor):
            return torch.cat(calls, probe.joins)
        return type(calls[0])(*(torch.cat(parts, probe.joins) for parts in zip(*calls, strict=True)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.probes)

    def __len__(self) -> int:
        return len(self.probes)

    def __repr__(self) -> str:
        return f"Observation({', '.join(self.probes)}: {len(self.calls)} calls)"


@contextlib.contextmanager
def observing(
    model: Any, probes: Sequence[Probe], memory: int = MEMORY, grad: bool = False
) -> Iterator[Observation]:  # fmt: skip
    """Inside, every call and `generate` of the model is observed; edits that are active are in what is seen.

    grad: statistics carry gradients (see `observe`); only calls that autograd records can then be observed. Raises
    TooLarge, with the size, for statistics of more than `memory` bytes; BadInput for positions off the text.
    """
    collector = Collector(model, probes, memory, grad)
    model.observers.append(collector)
    try:
        with model.bridge.hooks(fwd_hooks=collector.hooks()):
            yield Observation(collector.probes, collector.calls)
    finally:
        model.observers.remove(collector)


def observe(
    model: Any,
    tokens: Int[Tensor, "b n"] | str,
    probes: Sequence[Probe],
    attention_mask: Bool[Tensor, "b n"] | None = None,
    memory: int = MEMORY,
    inputs: Mapping[str, Any] | None = None,
    grad: bool = False,
) -> Observation:
    """One forward, observed. tokens: ids, or a text. inputs: see `Model.forward`. See `observing`.

    grad: the statistics carry gradients to whatever requires them: parameters, or a tensor that a hook puts in. Each
    block of a pattern is made again in the backward pass, so memory stays O(N). Raises BadInput where nothing requires
    gradients, Unsupported for probes and backends that have none.
    """
    ids = model.tokens(tokens) if isinstance(tokens, str) else tokens.to(model.device)
    with torch.set_grad_enabled(grad), observing(model, probes, memory, grad) as found:
        model.forward(ids, attention_mask, inputs=inputs, keep=slice(ids.shape[1] - 1, ids.shape[1]))
    if grad and not any(_requires_grad(call) for call in found.calls):
        raise BadInput("grad=True: nothing requires gradients: model.bridge.requires_grad_(), or a hook with a tensor")
    return found


def _requires_grad(x: Any) -> bool:
    """Whether a tensor, or any in a mapping or tuple of them, does."""
    if isinstance(x, Tensor):
        return x.requires_grad
    return any(_requires_grad(part) for part in (x.values() if isinstance(x, Mapping) else x))
