"""RetrievalAttention's upper bound (Liu et al. 2024, arXiv 2409.10516): every query reads its own exact top keys.

Nothing is evicted. The first and the last tokens are always read; an index would find the others nearly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.policies import Policy
from workbench.policies.reading import best, ends
from workbench.policies.scheme import Kept, Reading, Scheme, Seen, everything
from workbench.policies.setting import Setting

SINK, LOCAL, TOP = 128, 512, 100


def _make(setting: Setting) -> Scheme:
    local = setting.capacity // 4
    return _scheme(setting, min(4, local), local - min(4, local), setting.capacity - local)


def _published(setting: Setting) -> Scheme:
    setting.shorter(SINK + LOCAL + TOP)
    return _scheme(setting, SINK, LOCAL, TOP)


def _scheme(setting: Setting, sink: int, local: int, top: int) -> Scheme:
    def keep(layer: int, seen: Seen) -> Kept:
        return everything(seen)

    def read(layer: int, asked: Reading) -> Tensor:
        always = ends(asked, sink, local)[:, None]
        return always | best(asked.scores.masked_fill(always, float("-inf")), torch.full_like(asked.lengths, top))

    return Scheme(keep, setting.told(sink=sink, local=local, top=top), read=read)


POLICY = Policy(
    "topk",
    "RetrievalAttention's upper bound: every query head reads its own exact top keys, nothing is evicted",
    "arXiv 2409.10516",
    _make,
    _published,
)
