"""RetrievalAttention's upper bound (Liu et al. 2024, arXiv 2409.10516): every query reads its own exact top keys.

Nothing is evicted. The first and the last tokens are always read; an index would find the others nearly.
"""

from __future__ import annotations

from torch import Tensor

from workbench.policies import Policy
from workbench.policies.reading import best, between_ends
from workbench.policies.scheme import Reading

TOP = 100


def _choose(asked: Reading, always: Tensor, top: int) -> Tensor:
    return best(asked.scores.masked_fill(always[:, None], float("-inf")), top)


POLICY = Policy(
    "topk",
    "RetrievalAttention's upper bound: every query head reads its own exact top keys, nothing is evicted",
    "arXiv 2409.10516",
    *between_ends(_choose, TOP),
)
