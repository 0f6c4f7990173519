"""Edits on a layer that runs eagerly because somebody hooked its pattern: applied after the user's own hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from workbench_kernels import AttentionSpec, HeadEdits
from workbench_kernels.class_edits import edit_scores
from workbench_kernels.patterns import edit_weights, finish, held, visible

from workbench.errors import Unsupported
from workbench.looking import Look, from_pattern


def edit_pattern(
    p: Float[Tensor, "b h q k"], edits: HeadEdits, spec: AttentionSpec, sink: Float[Tensor, "b h q 1"] | float = 0.0
) -> Float[Tensor, "b h q k"]:
    """The pattern edits of a whole pattern that has been through its softmax.

    Where scores change, a row keeps its sum together with the share that a learned sink has of it.
    """
    rows, keys = torch.arange(p.shape[2], device=p.device)[None], slice(0, p.shape[3])
    mask, seen = visible(spec, edits, p.shape[0], rows, keys), spec.visible(rows, keys, p.shape[0])
    new, hidden = p.float(), seen & ~mask
    if edits.bias is not None or edits.window is not None:
        zero = torch.zeros(1, 1, 1, 1, device=p.device).expand(1, p.shape[1], 1, p.shape[3])
        changed = edit_scores(zero, edits, torch.ones_like(zero, dtype=torch.bool), keys)
        hold = held(edits, rows) & ((changed != 0) | hidden).any(-1, keepdim=True)  # other rows keep every bit
        weighed = new * changed.exp() * ~hidden
        total = (weighed.sum(-1, keepdim=True) + sink).clamp_min(torch.finfo(weighed.dtype).tiny)
        new = torch.where(hold, weighed * ((new.sum(-1, keepdim=True) + sink) / total), new)
    return edit_weights(new, spec, edits, mask, rows, keys).to(p.dtype)


@contextlib.contextmanager
def eager_edits(
    attention: Any, edits_of: Callable[[Look], list[HeadEdits]], spec: AttentionSpec, heads: int
) -> Iterator[None]:
    """Torch hooks that edit behind hook_pattern and before hook_z; removed on exit."""
    made: list[HeadEdits] = []
    sink: dict[str, Tensor] = {}
    learned: Any = getattr(attention.original_component, "sinks", None)

    def on_scores(_: Any, __: Any, s: Tensor) -> None:  # 1 − Σp would cancel where the share is small
        sink["share"] = (learned.float()[:, None] - s.float().logsumexp(-1)).sigmoid()[..., None]

    def edited(p: Tensor, edits: Sequence[HeadEdits]) -> Tensor:
        for edit in edits:
            if edit.boost is not None:
                raise Unsupported(
                    "pai edits scores, which a layer with a hook on its pattern does not give: remove the hook"
                )
            if edit.reshapes_pattern:
                p = edit_pattern(p, edit, spec, sink.get("share", 0.0))
        return p

    def on_pattern(_: Any, __: Any, p: Tensor) -> Tensor:
        made[:] = edits_of(from_pattern(p, spec, edited))
        return edited(p, made)

    def on_z(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        z = args[0]
        split = (z.unflatten(-1, (heads, -1)) if z.dim() == 3 else z).transpose(1, 2)
        for edit in made:
            split = finish(split, edit)
        return (split.transpose(1, 2).reshape(z.shape), *args[1:])

    handles = [attention.hook_pattern.register_forward_hook(on_pattern), attention.o.register_forward_pre_hook(on_z)]
    if learned is not None:
        handles.append(attention.hook_attn_scores.register_forward_hook(on_scores))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
