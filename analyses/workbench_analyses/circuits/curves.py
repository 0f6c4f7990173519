"""Circuit performance against size: how fast a ranking of heads brings the task back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from workbench.circuits import Place
from workbench_analyses.circuits.ablated import DRAWS, Ablated
from workbench_analyses.circuits.rankings import random_orders

EVERY = 200
"""Heads below which every size is measured; else the shares of MIB (Mueller et al. 2025, arXiv 2504.13151)."""
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RANDOM = "random"


@dataclass(frozen=True)
class Curve:
    """Faithfulness f of the k heads that a method ranks highest, and the areas that MIB makes of it.

    low, high: pointwise 95 % bootstrap interval over prompts; of the random ranking, the range over its draws. cpr: area
    of f over k / heads by trapezoids, higher is better, it can exceed 1. cmd: area of |1 − f|, 0 is best. Each with an
    interval of the same kind. Areas compare only with those of the same unit (heads), ablation and prompts.
    """

    method: str
    how: str
    sizes: tuple[int, ...]
    f: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    cpr: float
    cpr_interval: tuple[float, float]
    cmd: float
    cmd_interval: tuple[float, float]
    draws: int = 1


def sizes_of(heads: int) -> tuple[int, ...]:
    """The grid of k, from none to all."""
    if heads < EVERY:
        return tuple(range(heads + 1))
    return tuple(sorted({0, *(round(share * heads) for share in SHARES)}))


def areas(
    f: Float[np.ndarray, "*draws sizes"], sizes: Sequence[int]
) -> tuple[Float[np.ndarray, "*draws"], Float[np.ndarray, "*draws"]]:
    """CPR and CMD of curves over k / heads."""
    x = np.asarray(sizes) / sizes[-1]
    return np.trapezoid(f, x, axis=-1), np.trapezoid(np.abs(1 - f), x, axis=-1)


def performance_curves(
    ablated: Ablated, orders: Mapping[str, Sequence[Place]], randoms: int = 5, seed: int = 0, draws: int = DRAWS
) -> tuple[Curve, ...]:
    """A curve for each method's order of all heads, and one of random orders (randoms=0: none)."""
    out = [_curve(ablated, name, order, seed, draws) for name, order in orders.items()]
    return (*out, _random_curve(ablated, randoms, seed)) if randoms else tuple(out)


def _curve(ablated: Ablated, method: str, order: Sequence[Place], seed: int, draws: int) -> Curve:
    sizes = sizes_of(len(order))
    found = _prefixes(ablated, order, sizes)
    f = ablated.shares(found)
    _check_ends(ablated, f)
    resampled = ablated.resampled_shares(found, seed, draws)
    return _made(method, ablated.how, sizes, f, areas(f, sizes), resampled, (0.025, 0.975))


def _random_curve(ablated: Ablated, randoms: int, seed: int) -> Curve:
    sizes = sizes_of(len(ablated.heads))
    each = np.stack(
        [ablated.shares(_prefixes(ablated, order, sizes)) for order in random_orders(ablated.heads, randoms, seed)]
    )
    _check_ends(ablated, each)
    cpr, cmd = (x.mean() for x in areas(each, sizes))
    return _made(RANDOM, ablated.how, sizes, each.mean(0), (cpr, cmd), each, (0.0, 1.0), randoms)


def _prefixes(ablated: Ablated, order: Sequence[Place], sizes: Sequence[int]) -> Float[np.ndarray, "sizes n"]:
    return ablated([tuple(order[:k]) for k in sizes])


def _made(
    method: str, how: str, sizes: tuple[int, ...], f: np.ndarray, both: tuple[np.ndarray, np.ndarray],
    each: Float[np.ndarray, "draws sizes"], ends: tuple[float, float], draws: int = 1,
) -> Curve:  # fmt: skip
    low, high = np.quantile(each, ends, axis=0).tolist()
    cpr, cmd = ((float(a), float(b)) for a, b in (np.quantile(x, ends) for x in areas(each, sizes)))
    whole = float(both[0]), float(both[1])
    return Curve(method, how, sizes, tuple(f.tolist()), tuple(low), tuple(high), whole[0], cpr, whole[1], cmd, draws)


def _check_ends(ablated: Ablated, f: Float[np.ndarray, "*draws sizes"]) -> None:
    """No head does nothing, all heads do what the model without hooks does; both were measured apart from the curve."""
    eps = torch.finfo(ablated.model.dtype).eps
    near = max(1e-4, 64 * eps * (1 + float(np.abs(ablated.whole).max()) / abs(ablated.gap)))
    assert np.abs(f[..., 0]).max() <= near, f"f(0) = {f[..., 0]}"
    assert np.abs(f[..., -1] - 1).max() <= near, f"f(1) = {f[..., -1]}"
