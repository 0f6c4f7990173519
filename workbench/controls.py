"""Control lists of heads: drawn from the layers that hold the list, in the same numbers, the list excluded.

In a small model heads of early layers are necessary for everything, so a control across all layers breaks the task too
(measured: layer-matched random heads keep recall at 1.00 up to six heads, where the top three give .00).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

Heads = tuple[tuple[int, int], ...]


def matched_lists(chosen: Heads, usable: Sequence[tuple[int, int]], draws: int, seed: int) -> tuple[list[Heads], bool]:
    """Distinct random lists with the list's number of heads in each of its layers, none of them in the list.

    All such lists, and True, where no more exist than were asked for. Empty where a layer has fewer others.
    """
    need = Counter(layer for layer, _ in chosen)
    pools = {layer: sorted(h for h in usable if h[0] == layer and h not in chosen) for layer in need}
    if not draws or any(len(pools[layer]) < n for layer, n in need.items()):
        return [], False
    if math.prod(math.comb(len(pools[layer]), n) for layer, n in need.items()) <= draws:
        parts = [list(itertools.combinations(pools[layer], n)) for layer, n in need.items()]
        return [tuple(sorted(itertools.chain(*part))) for part in itertools.product(*parts)], True
    rng, out = np.random.default_rng(seed), {}
    while len(out) < draws:
        picks = (pools[layer][int(i)] for layer, n in need.items() for i in rng.choice(len(pools[layer]), n, False))
        out[tuple(sorted(picks))] = None
    return list(out), False


def random_lists(chosen: Heads, usable: Sequence[tuple[int, int]], draws: int, seed: int) -> list[Heads]:
    """Random lists of the list's length from all layers, none of them in the list; empty where too few are left."""
    others, rng = sorted(h for h in usable if h not in chosen), np.random.default_rng(seed)
    if len(others) < len(chosen):
        return []
    return [tuple(others[int(i)] for i in rng.choice(len(others), len(chosen), False)) for _ in range(draws)]


def p_value(harm: float, control: Sequence[float] | np.ndarray) -> float:
    """One-sided permutation p of a harm against those of control draws: (1 + #at least as harmful) / (1 + draws)."""
    at_least = int((np.asarray(control) >= harm - 1e-12).sum())  # equal recalls are equal, whatever their last bit
    return (1 + at_least) / (1 + len(control))


def corrected(*curves: Any) -> tuple[Any, ...]:
    """The same curves (dataclasses with `points`, or None) with q: all their points' p corrected together.

    Benjamini–Hochberg over every p that is there; a point without a control keeps q = None.
    """
    from scipy.stats import false_discovery_control

    tested = [pt.p for curve in curves if curve is not None for pt in curve.points if pt.p is not None]
    qs = iter(false_discovery_control(tested) if tested else ())

    def again(curve: Any) -> Any:
        points = (replace(pt, q=None if pt.p is None else float(next(qs))) for pt in curve.points)
        return replace(curve, points=tuple(points))

    return tuple(None if curve is None else again(curve) for curve in curves)
