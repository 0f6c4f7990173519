"""D2O (Wan et al. 2024, arXiv 2406.13035): budgets by layer, the most attended keys stay, evicted ones are merged.

A layer in which keys get very unequal attention gets less: budgets go as e^(-variance), with the variance of the attention
that keys receive, scaled to 0 … 1 over the heads of a layer, as the published code has it. A head keeps the first tokens
and, half and half, the last ones and those that received most from all rows of the prompt. Evicted entries join the
nearest kept key with the weight e^cosine, where the cosine reaches a threshold: the mean over all that are evicted. The
paper lets the threshold follow later evictions (an exponential moving average); here the prompt is cut once and
generated tokens stay, so the average never leaves its first value. Nothing joins the last token of the prompt, which
may be decoded once more. The published code leaves the first two layers and the last one whole and repeats caches for
every query head; here budgets are equal, and a group is cut once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.policies import Policy
from workbench.policies.merging import merged
from workbench.policies.observing import top_entries
from workbench.policies.scheme import Kept, Scheme, Seen
from workbench.policies.setting import Setting, TooTight

SINK = 4
SHARE = 0.2
"""The published share of the prompt that is kept, in scripts: a tenth of the last, a tenth of the most attended keys."""


def _make(setting: Setting) -> Scheme:
    if setting.capacity < 2 * (SINK + 1):
        raise TooTight(f"budget {setting.budget:g} leaves {setting.capacity} entries for a head, {SINK} of them sinks")
    return _scheme(setting, setting.capacity)


def _published(setting: Setting) -> Scheme:
    return _scheme(setting, setting.shorter(int(SHARE * setting.tokens)))


def _scheme(setting: Setting, capacity: int) -> Scheme:
    def keep(layer: int, seen: Seen) -> Kept:
        shares = allotted([spread(seen.received[i]) for i in setting.layers], capacity, setting.tokens)
        most = shares[list(setting.layers).index(layer)]
        votes = seen.received[layer].view(setting.kv_heads, -1, seen.tokens).sum(1)
        votes[:, :SINK] = float("inf")
        recent = most // 2
        heavy = top_entries(votes[:, : seen.tokens - recent], [most - recent] * setting.kv_heads, recent)
        return merged(seen, heavy, torch.exp, None)

    told = setting.told(mean_capacity=capacity, sink=SINK, recent="half", threshold="mean cosine")
    return Scheme(keep, told, accumulates=True, together=True)


def spread(received: Float[Tensor, "h n"]) -> float:
    """How unequal the attention is that keys receive: its variance, scaled to 0 … 1 over heads, then their mean."""
    variance = received.double().var(-1)
    low, high = variance.min(), variance.max()
    return float(((variance - low) / (high - low + 1e-6)).mean())


def allotted(spreads: Sequence[float], mean: int, most: int) -> list[int]:
    """Entries of a head, layer by layer, in proportion to e^(-spread); what a layer cannot hold goes to the others."""
    weight, out = np.exp(-np.asarray(spreads, dtype=float)), np.zeros(len(spreads))
    left = float(mean * len(weight))
    while left > 1e-6 and (out < most).any():
        room = out < most
        wanted = out + np.where(room, left * weight / weight[room].sum(), 0.0)
        out = np.minimum(wanted, most)
        left = float((wanted - out).sum())
    return [int(x + 1e-6) for x in out]


POLICY = Policy(
    "d2o",
    "D2O: budgets by layer, the most attended keys and the last ones stay, evicted ones join their nearest key",
    "arXiv 2406.13035",
    _make,
    _published,
)
