"""Whether a key is looked at by most queries or by a few: a sink is held by most of those that see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.masks import CompactMask
from workbench.positions import spans_index
from workbench.probes.even import even_columns, even_share
from workbench.probes.probe import Found, Probe


def held(keys: Sequence[int] | list[list[int]], name: str = "held") -> Probe:
    """Share of the valid queries that see a key which give it more than an even head would.

    [layers, batch, heads, keys]. keys: columns of the tokens, the same for all batch rows, or a list per batch row.
    """

    def ask(mask: CompactMask) -> Reductions:
        return Reductions(spans=spans_index(_spans(keys), mask))

    def read(s: Statistics, mask: CompactMask) -> Found:
        assert s.mass is not None
        return {"": held_share(s.mass, spans_index(_spans(keys), mask)[..., 0], mask)}

    return Probe(name, asks=ask, reads=read, no_grad="it counts queries", parts=True, leaves=0.0)


def held_share(paid: Float[Tensor, "b h q s"], keys: Int[Tensor, "b s"], mask: CompactMask) -> Float[Tensor, "b h s"]:
    """Of the valid queries that see a key, those that pay it more than an even head would. paid: from the first query.

    A key at a time: compared with shares in float64, all of `paid` would stand there once more at twice its size.
    """
    share = even_share(mask)[:, None, : paid.shape[2]]
    above = torch.stack([((one > share) & (share > 0)).sum(2) for one in paid.unbind(-1)], -1)
    _, queries = even_columns(mask)
    return (above / torch.gather(queries, 1, keys).clamp_min(1)[:, None]).float()


def _spans(keys: Any) -> Any:
    """One-token spans."""
    if keys and not isinstance(keys[0], int):
        return [[(k, k + 1) for k in row] for row in keys]
    return [(k, k + 1) for k in keys]
