"""One layer's eager forward, with its edits and statistics as hooks on scores, pattern and output.

So runs `backend="hooks"`, and a layer on whose pattern somebody has put a function: there all edits hold behind it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from workbench_kernels import HeadEdits, Reductions, Statistics

from workbench import dense
from workbench.dense_statistics import Whole
from workbench.errors import Unsupported
from workbench.hiding import hidden
from workbench.looking import from_pattern
from workbench.masks import CompactMask
from workbench.plan import Plan
from workbench.probes.probe import Hides


@contextlib.contextmanager
def hooked(plan: Plan, layer: int, attention: Any, mask: CompactMask) -> Iterator[None]:
    """Torch hooks behind the user's own at hook_attn_scores, hook_pattern and before the output projection."""
    run = _Layer(plan, layer, attention, mask)
    handles = [
        attention.hook_attn_scores.register_forward_hook(run.on_scores),
        attention.hook_pattern.register_forward_hook(run.on_pattern),
        attention.o.register_forward_pre_hook(run.on_z),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Layer:
    """The hooks of one layer in one forward."""

    def __init__(self, plan: Plan, layer: int, attention: Any, mask: CompactMask) -> None:
        self.plan, self.layer, self.mask, self.heads = plan, layer, mask, int(attention.config.n_heads)
        self.spec = mask.spec(1.0, sinks=getattr(attention.original_component, "sinks", None))
        rows = torch.arange(mask.queries, device=mask.device)[None]
        self.seen = self.spec.visible(rows, slice(0, mask.keys), mask.batch).expand(mask.batch, 1, -1, -1)
        self.behind = bool(attention.hook_pattern.has_hooks())
        self.edits: list[HeadEdits] = []
        self.scores = self.edited_scores = self.pattern = torch.empty(0)

    def on_scores(self, _: Any, __: Any, s: Tensor) -> Tensor | None:
        """Scores are edited; behind a user's hook on the pattern they are only looked at."""
        self.scores = self.edited_scores = s.double()
        for edit in [] if self.plan.edits is None else self.plan.edits.known(self.layer, self.mask):
            self.edited_scores = dense.edit_scores(self.edited_scores, self.seen, edit, self.spec)
        return None if self.behind else self.edited_scores.to(s.dtype).clamp_min(torch.finfo(s.dtype).min)

    def on_pattern(self, _: Any, __: Any, p: Tensor) -> Tensor:
        """The pattern is edited, and kept for statistics."""
        old = dense.reweighed(p.double(), self.scores, self.edited_scores, self.spec) if self.behind else p.double()
        self.edits = self.plan.edits_of(self.layer, self.mask, from_pattern(old, self.spec, self._edited))
        new = self._edited(old, self.edits)
        self.pattern = new.detach() * self.seen
        return new.to(p.dtype)

    def _edited(self, p: Tensor, edits: Sequence[HeadEdits]) -> Tensor:
        for edit in edits:
            p = dense.edit_pattern(p, self.seen, edit, self.spec)
        return p

    def on_z(self, _: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The heads' outputs are edited; all that was asked is known."""
        z = (args[0].unflatten(-1, (self.heads, -1)) if args[0].dim() == 3 else args[0]).transpose(1, 2)
        for edit in self.edits:
            z = dense.edit_output(z, edit)
        with torch.no_grad():
            self._answer(z.detach())
        return (z.transpose(1, 2).reshape(args[0].shape), *args[1:])

    def _answer(self, z: Tensor) -> None:
        plan, layer = self.plan, self.layer
        if any(observer.grad for observer in plan.observers):
            raise Unsupported(
                f"layer {layer}: whole patterns are looked at without gradients: take the hook off its pattern, or leave "
                "grad=True or backend='hooks'"
            )
        want = plan.reductions(layer, self.mask) if plan.reductions else None
        if want is not None:
            plan.found.setdefault(layer, []).append(self._statistics(want, z))
        for observer in plan.observers:
            for request, probes in observer.requests(self.mask):
                observer.read(layer, probes, self._statistics(request, z, probes[0].hides), self.mask)

    def _statistics(self, want: Reductions, z: Tensor, hides: Hides | None = None) -> Statistics:
        lse = dense.log_sum_exp(self.edited_scores.masked_fill(~self.seen, float("-inf")), self.spec)
        pattern, gone = self.pattern, None
        if hides is not None:
            look = from_pattern(pattern, self.spec, lambda p, _: p)
            gone = hidden(hides, self.mask, self.heads, look, self.edits)
            pattern = pattern.masked_fill(gone[:, :, None], 0.0)
        found = Whole(pattern, lse, self.seen, self.spec).reduce(want)
        found.left_out = gone
        found.norms = z.double().norm(dim=-1) if want.norms else None
        for field in fields(found):
            x = getattr(found, field.name)
            if x is not None and x.is_floating_point():
                setattr(found, field.name, x.float())
        return found
