"""PyramidKV (Cai et al. 2024, arXiv 2406.02069): SnapKV with budgets that fall linearly from the first layer to the last."""

from __future__ import annotations

from itertools import pairwise

from workbench.policies import Policy
from workbench.policies.observing import solved, top_entries, voted
from workbench.policies.scheme import Kept, Scheme, Seen, chosen
from workbench.policies.setting import Setting

CAPACITY, WINDOW, KERNEL, BETA = 128, 8, 7, 20


def _make(setting: Setting) -> Scheme:
    return _scheme(setting, setting.capacity, solved(setting.capacity, WINDOW, CAPACITY))


def _published(setting: Setting) -> Scheme:
    return _scheme(setting, setting.shorter(CAPACITY), WINDOW)


def _scheme(setting: Setting, capacity: int, window: int) -> Scheme:
    shares = dict(zip(setting.layers, pyramid(len(setting.layers), capacity - window, setting.tokens - window)))

    def keep(layer: int, seen: Seen) -> Kept:
        return chosen(top_entries(voted(seen, window, KERNEL), [shares[layer]] * setting.kv_heads, window))

    return Scheme(keep, setting.told(capacities=[n + window for n in shares.values()], window=window, kernel=KERNEL))


def pyramid(layers: int, mean: int, most: int) -> list[int]:
    """Entries of a head, layer by layer: a line whose mean is `mean`, from at most `most` down to at least mean / BETA.

    The line is flatter where its top would be more than the prompt has.
    """
    last = max(mean // BETA, 2 * mean - most)
    top = 2 * mean - last
    line = [top + (last - top) * i / max(1, layers - 1) for i in range(layers)]
    edges = [round(sum(line[:i])) for i in range(layers + 1)]  # rounding leaves the sum alone
    return [min(most, b - a) for a, b in pairwise(edges)] if layers > 1 else [mean]


POLICY = Policy(
    "pyramidkv",
    "PyramidKV: SnapKV with more entries in the first layers and fewer in the last",
    "arXiv 2406.02069",
    _make,
    _published,
)
