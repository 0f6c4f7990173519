"""SnapKV (Li et al. 2024, arXiv 2404.14469): every head keeps the prompt's last rows and what these look at most.

Votes are averaged over the query heads of a group, so that the key-value cache is cut once (the published code repeats it).
"""

from __future__ import annotations

from workbench.policies import Policy
from workbench.policies.observing import solved, top_entries, voted
from workbench.policies.scheme import Kept, Scheme, Seen, chosen
from workbench.policies.setting import Setting

CAPACITY, WINDOW, KERNEL = 1024, 32, 7


def _make(setting: Setting) -> Scheme:
    return _scheme(setting, setting.capacity, solved(setting.capacity, WINDOW, CAPACITY))


def _published(setting: Setting) -> Scheme:
    return _scheme(setting, setting.shorter(CAPACITY), WINDOW)


def _scheme(setting: Setting, capacity: int, window: int) -> Scheme:
    def keep(layer: int, seen: Seen) -> Kept:
        return chosen(top_entries(voted(seen, window, KERNEL), [capacity - window] * setting.kv_heads, window))

    return Scheme(keep, setting.told(capacity=capacity, window=window, kernel=KERNEL))


POLICY = Policy(
    "snapkv",
    "SnapKV: every head keeps the prompt's last rows and the keys that these look at most",
    "arXiv 2404.14469",
    _make,
    _published,
)
