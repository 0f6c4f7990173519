"""Attention with exact statistics and per-head edits in O(N) memory: tensors in, tensors out.

`attend` is the one way in; `reference` is the float64 truth that every backend is compared with.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from workbench_kernels import chunked, reference
from workbench_kernels.types import AttentionSpec, HeadEdits, Reductions, Statistics


def _triton(*call: Any) -> tuple[Tensor, Statistics]:
    from workbench_kernels.triton_attend import attend as run  # Triton is imported when it is first asked for

    return run(*call)


BACKENDS = {"chunked": chunked.attend, "reference": reference.attend, "triton": _triton}

__all__ = ["BACKENDS", "AttentionSpec", "HeadEdits", "Reductions", "Statistics", "attend"]


def attend(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k d"],
    spec: AttentionSpec,
    edits: HeadEdits | None = None,
    reductions: Reductions | None = None,
    backend: str = "chunked",
) -> tuple[Float[Tensor, "b h q d"], Statistics]:
    """Attention output with the edits applied, and the statistics that were asked for.

    Raises KeyError for an unknown backend. Heads h share kv heads g in consecutive groups of h / g.
    """
    return BACKENDS[backend](q, k, v, spec, edits, reductions)
