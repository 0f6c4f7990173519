"""Output where some heads are edited in every row: each head by its own way, on a core of its own, nothing copied.

A few heads at a time leave cores waiting for each other (a causal head has most of its work in its last rows): one
head a core is even.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench_kernels import parallel
from workbench_kernels.reshaping import Way, pieces
from workbench_kernels.types import AttentionSpec, HeadEdits

Plain = Callable[[Tensor, Tensor, Tensor, AttentionSpec], Tensor]
"""The unedited output."""


def by_heads(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b g m d"], v: Float[Tensor, "b g m d"], spec: AttentionSpec,
    edits: HeadEdits, flags: Bool[Tensor, "b h"], plain: Plain, by_blocks: Way,
) -> Float[Tensor, "b h n d"]:  # fmt: skip
    """Output of edits that hold in every query; a head is in `flags` with all batch rows or with none."""
    (b, h, n, _), group, cores = q.shape, q.shape[1] // k.shape[1], parallel.workers(q.device)
    z = torch.empty(b, n, h, v.shape[-1], dtype=q.dtype, device=q.device).transpose(1, 2)
    pooled = cores > 1 and not torch.is_grad_enabled() and (h % cores == 0 or h >= 4 * cores)

    def unedited(heads: slice) -> None:
        kv = slice(heads.start // group, (heads.stop - 1) // group + 1)
        sinks = None if spec.sink_logits is None else spec.sink_logits[heads]
        z[:, heads] = plain(q[:, heads], k[:, kv], v[:, kv], replace(spec, sink_logits=sinks))

    work = pieces(z, q, k, v, spec, edits, flags, by_blocks, cores if pooled else 1)
    work += [partial(unedited, heads) for heads in runs(flags[0].tolist(), group, 1 if pooled else h)]
    if pooled:
        parallel.run(work, q.device)
    else:
        for piece in work:
            piece()
    return z


def runs(edited: Sequence[bool], group: int, most: int) -> list[slice]:
    """Consecutive heads that are not edited, at most so many: of whole kv heads, or within one of them."""
    out: list[slice] = []
    for first in range(0, len(edited), group):
        whole = not any(edited[first : first + group])
        for head in range(first, first + group):
            if edited[head]:
                continue
            last = out[-1] if out else slice(-1, -1)
            joins = last.stop == head and head - last.start < most
            if joins and (head > first or (whole and last.start % group == 0 and most > group)):
                out[-1] = slice(last.start, head + 1)
            else:
                out.append(slice(head, head + 1))
    return out
