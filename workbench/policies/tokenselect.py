"""TokenSelect (Wu et al. 2024, arXiv 2411.02886): the heads of a layer vote, and all of them read the same keys.

A head's votes are its softmax over all keys (a soft vote, so that no head shouts the others down). Sinks and the last
tokens are always read. The paper keeps a selection while queries stay alike; here every step selects anew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.policies import Policy
from workbench.policies.reading import best, ends
from workbench.policies.scheme import Kept, Reading, Scheme, Seen, everything
from workbench.policies.setting import Setting

SINK, LOCAL, TOP = 128, 512, 2048


def _make(setting: Setting) -> Scheme:
    near = setting.capacity // 4
    return _scheme(setting, min(4, near), near - min(4, near), setting.capacity - near)


def _published(setting: Setting) -> Scheme:
    setting.shorter(SINK + LOCAL + TOP)
    return _scheme(setting, SINK, LOCAL, TOP)


def _scheme(setting: Setting, sink: int, local: int, top: int) -> Scheme:
    def keep(layer: int, seen: Seen) -> Kept:
        return everything(seen)

    def read(layer: int, asked: Reading) -> Tensor:
        always = ends(asked, sink, local)
        chosen = best(voted(asked).masked_fill(always, 0.0)[:, None], torch.full_like(asked.lengths, top))
        return (always[:, None] | chosen).expand_as(asked.scores)

    return Scheme(keep, setting.told(sink=sink, local=local, top=top), read=read)


def voted(asked: Reading) -> Tensor:
    """Votes of all heads of a layer on every key, [p, t, m], the same for all pairs of a prompt."""
    own = asked.scores.softmax(-1).sum(1)
    total = own.new_zeros(int(asked.rows.max()) + 1, *own.shape[1:]).index_add_(0, asked.rows, own)
    return total[asked.rows]


POLICY = Policy(
    "tokenselect",
    "TokenSelect: the heads of a layer vote for the keys that all of them read; nothing is evicted",
    "arXiv 2411.02886",
    _make,
    _published,
)
