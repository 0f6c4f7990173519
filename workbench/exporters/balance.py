"""Full heads over tensor-parallel ranks: servers slice heads by rank, so a list may load one GPU more than another."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool

from workbench.errors import BadInput
from workbench.head_sets import Head, HeadSet
from workbench.heads import HeadScores


def per_rank(full: Bool[np.ndarray, "layers heads"], ranks: int) -> tuple[int, ...]:
    """Full heads of each rank over all layers: rank r holds heads r·H/ranks up to (r+1)·H/ranks of every layer."""
    width = _width(full.shape[1], ranks)
    return tuple(int(n) for n in full.reshape(full.shape[0], ranks, width).sum((0, 2)))


def balanced(
    scores: HeadScores, chosen: HeadSet, fixed: Bool[np.ndarray, "layers heads"], ranks: int, grow: bool
) -> HeadSet:
    """The best heads of each rank, so that full heads (those of `fixed` included) differ by one at most.

    grow: none of `chosen` is given up, lighter ranks take more heads, as many as the heaviest has: its memory decides.
    Else as many heads as before, the best of each rank. Where a rank's fixed heads or lack of heads forbid it, as even
    as can be.
    """
    width = _width(scores.n_heads, ranks)
    held = list(per_rank(fixed, ranks))
    if grow:
        for head in chosen:
            held[head.head // width] += 1
        taken = set(chosen)
        return HeadSet((*chosen, *_fill((h for h in scores.rank() if h not in taken), held, max(held), width)))
    return HeadSet(tuple(_exchanged(scores.rank(), held, len(chosen), width)))


def _fill(rest: Iterable[Head], held: list[int], quota: int, width: int) -> list[Head]:
    """Best heads of the ranks that hold fewer than the quota."""
    out = []
    for head in rest:
        if held[head.head // width] < quota:
            held[head.head // width] += 1
            out.append(head)
    return out


def _exchanged(order: list[Head], held: list[int], room: int, width: int) -> list[Head]:
    """As many heads, in their order: rounds in which every lightest rank gains its best head that is left."""
    taken: set[Head] = set()
    while len(taken) < room:
        free = [head for head in order if head not in taken]
        lowest = min(held[rank] for rank in {head.head // width for head in free})
        for head in free:
            if held[head.head // width] == lowest and len(taken) < room:
                taken.add(head)
                held[head.head // width] += 1
    return [head for head in order if head in taken]


def _width(heads: int, ranks: int) -> int:
    if heads % ranks:
        raise BadInput(f"ranks={ranks}: {heads} heads a layer cannot be divided among them")
    return heads // ranks
