"""HeadKV (Fu et al. 2024, arXiv 2410.19258): SnapKV with a budget for every query head, by its share of all scores.

The published code repeats the keys of a group for each of its query heads, and so is counted here: its caches are those
of query heads, and with grouped queries they can hold more than the whole key-value cache.
"""

from __future__ import annotations

import numpy as np

from workbench.errors import BadInput
from workbench.policies import Policy
from workbench.policies.observing import solved, top_entries, voted
from workbench.policies.scheme import Kept, Scheme, Seen, chosen
from workbench.policies.setting import Setting, TooTight

BASE, WINDOW, KERNEL, BETA = 128, 8, 7, 1.2


def _make(setting: Setting) -> Scheme:
    capacity = int(setting.budget * setting.tokens / setting.group + 1e-9)
    if capacity < 2:
        raise TooTight(f"budget {setting.budget:g} leaves {capacity} entries for a query head")
    window = solved(capacity, WINDOW, BASE)
    return _scheme(setting, capacity - window, window)


def _published(setting: Setting) -> Scheme:
    setting.shorter(BASE)
    return _scheme(setting, BASE - WINDOW, WINDOW)


def _scheme(setting: Setting, base: int, window: int) -> Scheme:
    if setting.scores is None:
        raise BadInput("headkv needs a score of every query head")
    table = np.stack([setting.scores[layer] for layer in setting.layers])
    rows = dict(zip(setting.layers, shares(table, base, setting.tokens - window).tolist()))

    def keep(layer: int, seen: Seen) -> Kept:
        return chosen(top_entries(voted(seen, window, KERNEL, per_kv=False), rows[layer], window))

    told = {"mean_capacity": base + window, "window": window, "kernel": KERNEL, "beta": BETA}
    return Scheme(keep, setting.told(**told, caches="one a query head"))


def shares(scores: np.ndarray, base: int, most: int) -> np.ndarray:
    """Entries of each query head: a pool shared by the scores, and the same rest for everybody, [layers, heads].

    What a head cannot use, because the prompt has no more, goes to the others, so that the sum is that of the budget.
    """
    pool = int(base // BETA)
    positive = np.maximum(scores, 0.0)
    p = positive / positive.sum() if positive.sum() > 0 else np.full(scores.shape, 1 / scores.size)
    wanted = p * pool * scores.size + (base - pool)
    total, out = min(base, most) * scores.size, np.minimum(wanted, most)
    for _ in range(8):
        room = most - out
        if room.sum() <= 0 or total - out.sum() < 1:
            break
        out = np.minimum(out + (total - out.sum()) * room / room.sum(), most)
    return np.floor(out + 1e-9).astype(int)


POLICY = Policy(
    "headkv",
    "HeadKV: SnapKV with a budget for every query head by its score; keys repeated for each, as published",
    "arXiv 2410.19258",
    _make,
    _published,
    needs="scores",
)
