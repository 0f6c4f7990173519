"""Statistics without an output: for a second request on the same q and k."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench_kernels import differentiable
from workbench_kernels.chunked import add_chosen_rows
from workbench_kernels.sweep import sweep
from workbench_kernels.types import AttentionSpec, Edits, Reductions, Statistics


def statistics(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: Edits,
    want: Reductions,
) -> Statistics:
    """The reductions of the edited pattern, detached unless want.grad; `norms`, which needs values, is the caller's."""
    if want.grad and torch.is_grad_enabled():
        return differentiable.statistics(q, k, spec, edits, want)
    with torch.no_grad():
        found = sweep(q, k, None, spec, edits, want)[1] if want.whole_rows else Statistics()
        if want.rows is not None and (want.top_k or want.spans is not None):
            add_chosen_rows(found, q, k, spec, edits, want)
    return found
