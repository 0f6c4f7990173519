"""Choosing what a query reads: the best keys by some scores, and the ends of the text."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.policies.scheme import Reading, Scheme, keep_all
from workbench.policies.setting import Setting

SINK, LOCAL = 128, 512
"""Published ends: the first tokens and the last ones that are read beside the chosen keys."""
FIRST = 4
"""First tokens that are read where the budget sets all lengths."""

Choose = Callable[[Reading, Bool[Tensor, "p t m"], int], Bool[Tensor, "p #r t m"]]
"""(what is there, what is read anyway, how many more) → which."""


def best(scores: Float[Tensor, "p r t m"], most: int) -> Bool[Tensor, "p r t m"]:
    """The highest finite scores of each row, `most` at most."""
    top = scores.topk(min(most, scores.shape[-1]), -1)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, top.indices, top.values.isfinite())


def near(at: Int[Tensor, "p m"], steps: Int[Tensor, "p t"], local: int) -> Bool[Tensor, "p t m"]:
    """The last keys before each query, its own position included."""
    return (at >= 0)[:, None] & (steps[:, :, None] - at[:, None] < local)


def ends(asked: Reading, sink: int, local: int) -> Bool[Tensor, "p t m"]:
    """The first keys, and the last ones."""
    first = (asked.at >= 0) & (asked.at < sink)
    return first[:, None] | near(asked.at, asked.steps, local)


def between_ends(choose: Choose, top: int) -> tuple[Callable[[Setting], Scheme], Callable[[Setting], Scheme]]:
    """Both rules of a policy that reads the ends of the text and some keys between them; nothing is evicted.

    By the budget: a quarter of it for the ends. As published: SINK and LOCAL tokens, and `top` keys.
    """

    def scheme(setting: Setting, sink: int, local: int, top: int) -> Scheme:
        def read(layer: int, asked: Reading) -> Tensor:
            always = ends(asked, sink, local)
            return (always[:, None] | choose(asked, always, top)).expand_as(asked.scores)

        return Scheme(keep_all, setting.told(sink=sink, local=local, top=top), read=read)

    def make(setting: Setting) -> Scheme:
        both = setting.capacity // 4
        sink = min(FIRST, both)
        return scheme(setting, sink, both - sink, setting.capacity - both)

    def published(setting: Setting) -> Scheme:
        setting.shorter(SINK + LOCAL + top)
        return scheme(setting, SINK, LOCAL, top)

    return make, published
