"""Recycled Attention (Xu et al. 2024, arXiv 2411.05787): most steps read what the last full step looked at most.

Every so many steps a query reads everything; in between a key-value head reads the keys that got most in the last full
step (the maximum over the query heads of its group) and the last tokens. The prompt's last row, read in full, is the
first such step. Half of the budget pays for full steps, a quarter of the rest for the last tokens. The paper also starts
a full step when queries turn away from the last one; here the steps are counted.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.policies import Policy
from workbench.policies.reading import best, near
from workbench.policies.scheme import Reading, Scheme, keep_all
from workbench.policies.setting import Setting, TooTight


def _make(setting: Setting) -> Scheme:
    stride = max(2, round(2 / setting.budget))
    share = (setting.budget - 1 / stride) / (1 - 1 / stride)
    entries = int(share * setting.tokens + 1e-9)
    if entries < 2:
        raise TooTight(f"budget {setting.budget:g} leaves {entries} entries between full steps")
    local = max(1, entries // 4)
    return _scheme(setting, stride, local, entries - local)


def _scheme(setting: Setting, stride: int, local: int, top: int) -> Scheme:
    def read(layer: int, asked: Reading) -> Tensor:
        return recycled(asked, stride, local, top)

    return Scheme(keep_all, setting.told(stride=stride, local=local, top=top), read=read)


def recycled(asked: Reading, stride: int, local: int, top: int) -> Bool[Tensor, "p r t m"]:
    """What every step reads: steps stride − 1, 2 · stride − 1, … (from 0) everything, the others by the full one before."""
    steps = torch.arange(asked.steps.shape[1], device=asked.steps.device)
    full = steps % stride == stride - 1
    rows = torch.cat([asked.before()[:, :, None], asked.scores], 2)[:, :, ::stride]  # those that are read in full
    kept = _most_attended(rows, top)[:, steps // stride]
    return (kept | near(asked.at, asked.steps, local) | full[:, None])[:, None].expand_as(asked.scores)


def _most_attended(scores: Float[Tensor, "p r f m"], top: int) -> Bool[Tensor, "p f m"]:
    """The keys of the prompt with the most attention from any query head of the group."""
    return best(scores.softmax(-1).amax(1)[:, None], top)[:, 0]


POLICY = Policy(
    "recycled",
    "Recycled Attention: most steps read what the last full step looked at most; nothing is evicted",
    "arXiv 2411.05787",
    _make,
)
