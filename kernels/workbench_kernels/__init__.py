"""Attention with exact statistics and per-head edits in O(N) memory: tensors in, tensors out.

`attend` is the one way in; `reference` is the float64 truth that every backend is compared with.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench_kernels import chunked, reference
from workbench_kernels.triton_support import Unsupported, why_not
from workbench_kernels.types import AttentionSpec, Edits, HeadEdits, Matches, Reductions, Statistics, phases


def _triton(
    q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, edits: Edits, want: Reductions | None
) -> tuple[Tensor, Statistics]:
    from workbench_kernels.triton_attend import attend as run  # Triton is imported when it is first asked for

    several = phases(edits)
    if len(several) < 2:
        return run(q, k, v, spec, several[0] if several else None, want)
    reason = why_not(spec, several, want)
    if reason is not None:
        raise Unsupported(f"the triton backend does not do {reason}; use the chunked one")
    z, found = run(q, k, v, spec, several[0], None)
    for more in several[1:]:
        assert more.queries is not None
        z = torch.where(more.queries[:, None, :, None], run(q, k, v, spec, more, None)[0], z)
    return z, found


BACKENDS = {"chunked": chunked.attend, "reference": reference.attend, "triton": _triton}

__all__ = ["BACKENDS", "AttentionSpec", "HeadEdits", "Matches", "Reductions", "Statistics", "Unsupported", "attend"]


def attend(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: Edits = None,
    reductions: Reductions | None = None,
    backend: str = "chunked",
) -> tuple[Float[Tensor, "b h q d"], Statistics]:
    """Attention output with the edits applied, and the statistics that were asked for, of the edited pattern.

    edits: several where phases are edited differently, each with `queries` of its own. Raises KeyError for an unknown
    backend. Heads h share kv heads g in consecutive groups of h / g.
    """
    return BACKENDS[backend](q, k, v, spec, edits, reductions)
