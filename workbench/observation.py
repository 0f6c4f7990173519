"""Observe: statistics of attention and activations, collected while the model runs, no N×N tensor anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.budget import in_parts
from workbench.collector import Collector
from workbench.company import company
from workbench.errors import BadInput
from workbench.footprint import forward_bytes
from workbench.masks import compact_mask
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
        axis = probe.joins
        return _each(calls, lambda parts: torch.cat(parts, axis))

    def __iter__(self) -> Iterator[str]:
        return iter(self.probes)

    def __len__(self) -> int:
        return len(self.probes)

    def __repr__(self) -> str:
        return f"Observation({', '.join(self.probes)}: {len(self.calls)} calls)"


@contextlib.contextmanager
def observing(
    model: Any, probes: Sequence[Probe], memory: int | str | None = None, grad: bool = False
) -> Iterator[Observation]:  # fmt: skip
    """Inside, every call and `generate` of the model is observed; edits that are active are in what is seen.

    grad: statistics carry gradients (see `observe`); only calls that autograd records can then be observed. Raises
    TooLarge, with the size, for statistics of more than `memory` bytes; BadInput for positions off the text.
    """
    with _collecting(model, Collector(model, probes, memory, grad)) as collector:
        yield Observation(collector.probes, collector.calls)


@contextlib.contextmanager
def _collecting(model: Any, collector: Collector) -> Iterator[Collector]:
    model.observers.append(collector)
    try:
        with model.bridge.hooks(fwd_hooks=collector.hooks()):
            yield collector
    finally:
        model.observers.remove(collector)


def observe(
    model: Any,
    tokens: Int[Tensor, "b n"] | str,
    probes: Sequence[Probe],
    attention_mask: Bool[Tensor, "b n"] | None = None,
    memory: int | str | None = None,
    inputs: Mapping[str, Any] | None = None,
    grad: bool = False,
) -> Observation:
    """One forward, observed. tokens: ids, or a text. inputs: see `Model.forward`. See `observing`.

    memory: bytes that forward and statistics may take beside the weights (see `workbench.budget`). A batch that takes
    more runs in parts, whose numbers are the same up to rounding; it stays together where edits, other observers or hooks
    are in force, with `inputs`, with grad, and for probes that do not say `Probe.parts`.
    grad: the statistics carry gradients to whatever requires them: parameters, or a tensor that a hook puts in. Each
    block of a pattern is made again in the backward pass, so memory stays O(N). Raises BadInput where nothing requires
    gradients, Unsupported for probes and backends that have none, TooLarge where the memory does not suffice.
    """
    ids = model.tokens(tokens) if isinstance(tokens, str) else tokens.to(model.device)
    parted = not grad and not inputs and all(p.parts for p in probes) and company(model) is None
    collector = Collector(model, probes, memory, grad)

    def some(part: slice) -> dict[str, Any]:
        rows = part if parted else slice(0, len(ids))
        collector.part = rows, len(ids)
        mask = None if attention_mask is None else attention_mask[rows]
        model.forward(ids[rows], mask, inputs=inputs, keep=slice(ids.shape[1] - 1, ids.shape[1]))
        return collector.calls.pop() if collector.calls else {}

    with torch.set_grad_enabled(grad), _collecting(model, collector):
        each, kept = (0, 0) if grad else _footprint(collector, ids, attention_mask, parted)
        rows = len(ids) if parted else 1
        together = len(ids) // max(1, rows)
        calls = in_parts(model, "observe", rows, each * together, some, memory, kept, together=together)
    call = calls[0] if len(calls) == 1 else _joined(calls)
    if grad and not _requires_grad(call):
        raise BadInput("grad=True: nothing requires gradients: model.bridge.requires_grad_(), or a hook with a tensor")
    return Observation(collector.probes, [call] if call else [])


def row_bytes(model: Any, tokens: Int[Tensor, "1 n"], probes: Sequence[Probe]) -> int:
    """What observing a row takes at most, at work and kept. For who divides a batch whose probes do not say `parts`."""
    unlimited = Collector(model, probes, memory=1 << 62)  # who asks refuses
    return sum(_footprint(unlimited, tokens.to(model.device), None, True))


def _footprint(
    collector: Collector, ids: Int[Tensor, "b n"], attention_mask: Tensor | None, parted: bool
) -> tuple[int, int]:
    """Bytes that a row takes while it is at work, and those that all statistics take when they are there."""
    (b, n), model = ids.shape, collector.model
    text = None if attention_mask is None else attention_mask.to(ids.device)
    kept, passing = collector.sizes(compact_mask(b, n, n, attention_mask=text, device=ids.device), parted)
    return forward_bytes(model, n) + 2 * sum(kept + passing) // max(1, b), sum(kept) + max(kept, default=0)


def _joined(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of a batch, one statistic after the other, so that only one exists twice."""
    return {name: _each([c.pop(name) for c in calls], lambda parts: torch.cat(parts, 1)) for name in list(calls[0])}


def _each(found: list[Any], join: Callable[[list[Tensor]], Tensor]) -> Any:
    """Tensors, or tuples of them, field by field."""
    if isinstance(found[0], Tensor):
        return join(found)
    return type(found[0])(*(join(list(parts)) for parts in zip(*found, strict=True)))


def _requires_grad(x: Any) -> bool:
    """Whether a tensor, or any in a mapping or tuple of them, does."""
    if isinstance(x, Tensor):
        return x.requires_grad
    return any(_requires_grad(part) for part in (x.values() if isinstance(x, Mapping) else x))
