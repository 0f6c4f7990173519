"""Ada-KV (Feng et al. 2024, arXiv 2407.11550): SnapKV's votes, the heads of a layer compete for one budget.

Every head is sure of a fifth of the mean budget.
"""

from __future__ import annotations

import torch

from workbench.policies import Policy
from workbench.policies.observing import solved, top_entries, voted
from workbench.policies.scheme import Kept, Scheme, Seen, chosen
from workbench.policies.setting import Setting

CAPACITY, WINDOW, KERNEL, FLOOR = 1024, 32, 7, 0.2


def _make(setting: Setting) -> Scheme:
    return _scheme(setting, setting.capacity, solved(setting.capacity, WINDOW, CAPACITY))


def _published(setting: Setting) -> Scheme:
    return _scheme(setting, setting.shorter(CAPACITY), WINDOW)


def _scheme(setting: Setting, capacity: int, window: int) -> Scheme:
    def keep(layer: int, seen: Seen) -> Kept:
        votes = voted(seen, window, KERNEL)
        return chosen(top_entries(votes, shared(votes, capacity - window, FLOOR), window))

    return Scheme(keep, setting.told(mean_capacity=capacity, window=window, kernel=KERNEL, floor=FLOOR))


def shared(votes: torch.Tensor, mean: int, floor: float) -> list[int]:
    """Entries of each head: its floor, and as many of the layer's best others as are left."""
    c, n = votes.shape
    least, total = min(int(floor * mean), n), min(mean * votes.shape[0], votes.numel())
    ranks = votes.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    open_votes = votes.masked_fill(ranks < least, float("-inf")).flatten()
    won = open_votes.argsort(dim=-1, descending=True, stable=True)[: total - c * least]
    return (least + torch.bincount(won // n, minlength=c)).tolist() if n else [0] * c


POLICY = Policy(
    "adakv",
    "Ada-KV: SnapKV whose heads compete for the budget of their layer",
    "arXiv 2407.11550",
    _make,
    _published,
)
