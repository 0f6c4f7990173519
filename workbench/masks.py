"""What Hugging Face says of an attention mask, kept as it says it: offsets, padding, a function; never N×N."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function
from workbench_kernels import AttentionSpec

from workbench.errors import TooLarge, Unsupported


@dataclass(frozen=True)
class CompactMask:
    """What Hugging Face says of a mask, without building it."""

    batch: int
    queries: int
    keys: int
    q_offset: int
    kv_offset: int
    allowed: Callable[..., Tensor] | None  # None: causal
    padding: Tensor | None
    reach: int | None
    first: Tensor | None
    device: torch.device
    part: tuple[slice, int] | None = None  # where a batch runs in parts: which of how many rows these are

    def __radd__(self, other: Any) -> Any:
        """A module that adds a mask to scores of its own cannot be served: say so."""
        raise Unsupported("a layer of this model adds its mask to scores itself, so that the seam cannot serve it")

    __getitem__ = __radd__

    def to(self, device: torch.device | str | int, **_: Any) -> CompactMask:
        """The same on another device: how accelerate brings a layer on another GPU what it is given."""
        padding, first = (None if x is None else x.to(device) for x in (self.padding, self.first))
        return replace(self, padding=padding, first=first, device=torch.device(device))

    @property
    def whole(self) -> int:
        """Rows of the batch, of which these may be a part."""
        return self.batch if self.part is None else self.part[1]

    def own(self, given: Any) -> Any:
        """Of a list or tensor with an entry for each row of the batch, those of these rows."""
        return given if self.part is None else given[self.part[0]]

    def spec(self, scale: float, softcap: float | None = None, sinks: Tensor | None = None) -> AttentionSpec:
        """The mask as the kernels want it."""
        slides = self.reach is not None and _same(self.allowed, sliding_window_causal_mask_function(self.reach))
        return AttentionSpec(
            scale=scale, q_offset=self.q_offset, kv_offset=self.kv_offset, padding=self.padding,
            allowed=None if slides else self.allowed, sliding=self.reach if slides else None,
            reach=None if slides else self.reach, first=self.first, softcap=softcap, sink_logits=sinks,
        )  # fmt: skip

    def dense(self, dtype: torch.dtype, heads: int, memory: int) -> Tensor:
        """The additive N×N mask for a layer that goes the eager way; refused when its scores would not fit."""
        size = self.batch * heads * self.queries * self.keys * 8 * 5  # scores, softmax, pattern and edits in float64
        if size > memory:
            raise TooLarge(
                "backend=hooks and hooks on hook_pattern or hook_attn_scores need the whole pattern: "
                f"{size / 2**30:.1f} GiB for {self.queries} tokens; limit {memory / 2**30:.1f} GiB, raise model.memory"
            )
        rows = torch.arange(self.queries, device=self.device)[None]
        seen = self.spec(1.0).visible(rows, slice(0, self.keys), self.batch).expand(self.batch, 1, -1, -1)
        return torch.zeros(seen.shape, dtype=dtype, device=self.device).masked_fill(~seen, torch.finfo(dtype).min)


def compact_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    device: torch.device | str = "cpu",
    **_: Any,
) -> CompactMask:
    """A mask function as transformers calls it."""
    padding = first = None
    if attention_mask is not None and not bool(attention_mask.all()):
        first = attention_mask.int().argmax(-1)
        padding = attention_mask[:, kv_offset : kv_offset + kv_length].bool()
        padding = torch.nn.functional.pad(padding, (0, kv_length - padding.shape[1]), value=True)
    allowed = None if mask_function is causal_mask_function else mask_function
    if (
        local_size is not None
        and allowed is not None
        and _looks_ahead(allowed, batch_size, q_length, int(q_offset), device)
    ):
        local_size = None  # pictures that are seen whole (Gemma 3) lie outside the window, and ahead
    return CompactMask(
        batch_size, q_length, kv_length, int(q_offset), int(kv_offset), allowed, padding, local_size, first,
        torch.device(device),
    )  # fmt: skip


def _same(a: Any, b: Any) -> bool:
    """Whether two mask functions are the same code over the same values; what only acts alike is not found."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        return a is b or (a.__code__ is b.__code__ and _same(_enclosed(a), _enclosed(b)))
    return type(a) is type(b) and isinstance(a, int) and a == b


def _enclosed(function: FunctionType) -> tuple[Any, ...]:
    return tuple(cell.cell_contents for cell in function.__closure__ or ())


def _looks_ahead(
    allowed: Callable[..., Any], batch: int, queries: int, offset: int, device: torch.device | str
) -> bool:
    """Whether any query sees the key behind it. The last query has none."""
    q = torch.arange(queries - 1, device=device)[None, None, :, None] + offset
    b = torch.arange(batch, device=device)[:, None, None, None]
    return queries > 1 and bool(allowed(b, torch.zeros_like(b), q, q + 1).any())
