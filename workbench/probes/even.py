"""What a head that attends evenly would give each key under the same mask: the yardstick of received attention.

With a causal mask even attention itself gives early keys more (H_N / N at the first key) and late keys few queries.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from workbench_kernels import Reductions

from workbench.masks import CompactMask
from workbench.probes.probe import Probe

ROWS = 256
"""Queries looked at at once where the mask is not plainly causal."""


class Even(NamedTuple):
    """received: mean attention of the valid queries that see a key, of an even head. queries: how many they are."""

    received: Float[Tensor, "layers b keys"]
    queries: Float[Tensor, "layers b keys"]


def even(name: str = "even") -> Probe:
    """What an even head gives each key, and how many valid queries see it: see Even. No attention is computed."""
    return Probe(
        name,
        asks=lambda mask: Reductions(),
        reads=lambda s, mask: dict(zip(("received", "queries"), even_columns(mask), strict=True)),
        gathers=lambda found: Even(found["received"], found["queries"]),
        parts=True,
    )


def even_columns(mask: CompactMask) -> tuple[Float[Tensor, "b keys"], Float[Tensor, "b keys"]]:
    """Received attention of an even head, and the valid queries that see each key; float64, O(N) memory."""
    share, valid = even_share(mask), valid_queries(mask)
    if _plainly_causal(mask):
        total, queries = (x.double().flip(-1).cumsum(-1).flip(-1) for x in (share, valid))
        if mask.padding is not None:  # nobody sees padding
            total, queries = total * mask.padding, queries * mask.padding
        return total / queries.clamp_min(1), queries
    total = torch.zeros(mask.batch, mask.keys, dtype=torch.float64, device=mask.device)
    queries = torch.zeros_like(total)
    for rows, keys, seen in _blocks(mask):
        seen = (seen & valid[:, rows, None]).double()
        total[:, keys] += torch.matmul(share[:, None, rows], seen)[:, 0]
        queries[:, keys] += seen.sum(1)
    return total / queries.clamp_min(1), queries


def even_share(mask: CompactMask) -> Float[Tensor, "b q"]:
    """The weight that each query of an even head gives every key that it sees; 0 for padding."""
    valid = valid_queries(mask)
    if _plainly_causal(mask):
        count = valid.double().cumsum(-1)
    else:
        count = torch.zeros(mask.batch, mask.queries, dtype=torch.float64, device=mask.device)
        for rows, _, seen in _blocks(mask):
            count[:, rows] = seen.sum(-1).double()
    return torch.where(valid, 1 / count.clamp_min(1), 0.0)


def valid_queries(mask: CompactMask) -> Bool[Tensor, "b q"]:
    """Queries of the text, not of padding."""
    if mask.padding is None:
        return torch.ones(mask.batch, mask.queries, dtype=torch.bool, device=mask.device)
    own = torch.arange(mask.queries, device=mask.device) + mask.q_offset - mask.kv_offset
    return mask.padding[:, own]


def _plainly_causal(mask: CompactMask) -> bool:
    return mask.allowed is None and mask.q_offset == mask.kv_offset and mask.queries == mask.keys


def _blocks(mask: CompactMask):  # type: ignore[no-untyped-def]
    """Slices of the queries, the keys that they can see at all, and who sees whom, [b, q, k]."""
    spec = mask.spec(1.0)
    for start in range(0, mask.queries, ROWS):
        rows = slice(start, min(mask.queries, start + ROWS))
        keys = spec.keys(rows.start, rows.stop, mask.keys)
        at = torch.arange(rows.start, rows.stop, device=mask.device)[None]
        yield rows, keys, spec.visible(at, keys, mask.batch)[:, 0].expand(mask.batch, -1, -1)
