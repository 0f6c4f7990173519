"""What the abstract of EMS says (Li et al. 2024, arXiv 2412.08521), and no more: it is kept off comparison plots.

Every head keeps the keys with the highest importance, global (received from all rows) and local (from the last rows)
together. Evicted entries join the class of the nearest kept key; those that are like none go to the zero class, which is
dropped. How the paper weighs the two kinds of importance, how it forms classes and where its zero class begins is not in
the abstract: equal sums, means and a cosine below LEAST stand in.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.policies import Policy
from workbench.policies.merging import merged
from workbench.policies.observing import solved, top_entries
from workbench.policies.scheme import Kept, Scheme, Seen
from workbench.policies.setting import Setting

WINDOW, CAPACITY = 32, 256
"""Rows whose look is local, of the budget that the abstract reports."""
LEAST = 0.5


def _make(setting: Setting) -> Scheme:
    capacity = setting.capacity
    window = solved(capacity, WINDOW, CAPACITY)

    def keep(layer: int, seen: Seen) -> Kept:
        votes = importance(seen, layer, window)[:, : seen.tokens - window]
        entries = top_entries(votes, [capacity - window] * setting.kv_heads, window)
        return merged(seen, entries, torch.ones_like, LEAST)

    return Scheme(keep, setting.told(capacity=capacity, window=window, zero_class_below=LEAST), accumulates=True)


def importance(seen: Seen, layer: int, window: int) -> Float[Tensor, "g n"]:
    """Shares of the attention of all rows and of the last rows, added, averaged over the query heads of a group."""
    wide = seen.received[layer].view(seen.keys.shape[0], -1, seen.tokens).mean(1) / seen.tokens
    return wide + seen.observed(window)


POLICY = Policy(
    "ems-like",
    "what the abstract of EMS says, no more: top keys by global and local attention, others join their nearest key",
    "arXiv 2412.08521, abstract only",
    _make,
    exact=False,
)
