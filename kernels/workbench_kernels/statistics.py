"""Statistics without an output: for a second request on the same q and k."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench_kernels.chunked import add_chosen_rows
from workbench_kernels.sweep import sweep
from workbench_kernels.types import AttentionSpec, Edits, Reductions, Statistics


@torch.no_grad()
def statistics(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: Edits,
    want: Reductions,
) -> Statistics:
    """The reductions of the edited pattern, detached; `norms`, which needs values, is left to the caller."""
    found = sweep(q, k, None, spec, edits, want)[1] if want.whole_rows else Statistics()
    if want.rows is not None and (want.top_k or want.spans is not None):
        add_chosen_rows(found, q, k, spec, edits, want)
    return found
