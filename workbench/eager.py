"""Edits on a layer that runs eagerly because somebody hooked its pattern: applied after the user's own hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from workbench_kernels import AttentionSpec, HeadEdits
from workbench_kernels.patterns import finish, visible

from workbench.errors import Unsupported


def edit_pattern(p: Tensor, edits: HeadEdits, spec: AttentionSpec) -> Tensor:
    """Window and uniform edits of a whole pattern [b, h, q, k] that has been through its softmax."""
    rows = torch.arange(p.shape[2], device=p.device)[None]
    keys = slice(0, p.shape[3])
    if edits.window is not None:
        near = visible(spec, edits, p.shape[0], rows, keys)
        p = p * near
        p = p / p.sum(-1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny)
    if edits.uniform is not None:
        mask = visible(spec, edits, p.shape[0], rows, keys)
        even = mask.to(p.dtype) / mask.sum(-1, keepdim=True).clamp_min(1)
        hold = torch.ones_like(rows, dtype=torch.bool) if edits.queries is None else edits.queries
        p = torch.where(edits.uniform[:, :, None, None] & hold[:, None, :, None], even, p)
    return p


@contextlib.contextmanager
def eager_edits(attention: Any, edits: list[HeadEdits], spec: AttentionSpec, n_keys: int, heads: int) -> Iterator[None]:
    """Torch hooks that edit behind hook_pattern and before hook_z; removed on exit."""
    handles = []
    sinks = getattr(attention.original_component, "sinks", None)
    for edit in edits:
        if edit.reshapes_pattern and sinks is not None:
            raise Unsupported("window and uniform edits of a learned-sink layer need the fused path: remove the hook")

        def on_pattern(_: Any, __: Any, p: Tensor, e: HeadEdits = edit) -> Tensor:
            return edit_pattern(p, e, spec)

        def on_z(_: Any, args: tuple[Any, ...], e: HeadEdits = edit) -> tuple[Any, ...]:
            z = args[0]
            split = z.unflatten(-1, (heads, -1)) if z.dim() == 3 else z
            return (finish(split.transpose(1, 2), e).transpose(1, 2).reshape(z.shape), *args[1:])

        if edit.reshapes_pattern:
            handles.append(attention.hook_pattern.register_forward_hook(on_pattern))
        if edit.gain is not None or edit.replace is not None:
            handles.append(attention.o.register_forward_pre_hook(on_z))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
