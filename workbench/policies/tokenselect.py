"""TokenSelect (Wu et al. 2024, arXiv 2411.02886): the heads of a layer vote, and all of them read the same keys.

A head's votes are its softmax over all keys (a soft vote, so that no head shouts the others down). Sinks and the last
tokens are always read. The paper keeps a selection while queries stay alike; here every step selects anew.
"""

from __future__ import annotations

from torch import Tensor

from workbench.policies import Policy
from workbench.policies.reading import best, between_ends
from workbench.policies.scheme import Reading

TOP = 2048


def _choose(asked: Reading, always: Tensor, top: int) -> Tensor:
    return best(voted(asked).masked_fill(always, 0.0)[:, None], top)


def voted(asked: Reading) -> Tensor:
    """Votes of all heads of a layer on every key, [p, t, m], the same for all pairs of a prompt."""
    own = asked.scores.softmax(-1).sum(1)
    total = own.new_zeros(int(asked.rows.max()) + 1, *own.shape[1:]).index_add_(0, asked.rows, own)
    return total[asked.rows]


POLICY = Policy(
    "tokenselect",
    "TokenSelect: the heads of a layer vote for the keys that all of them read; nothing is evicted",
    "arXiv 2411.02886",
    *between_ends(_choose, TOP),
)
