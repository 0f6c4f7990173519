"""Receivers: the keys that receive most attention, with their exact columns."""

from __future__ import annotations

import torch
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.errors import BadInput
from workbench.masks import CompactMask
from workbench.positions import lengths
from workbench.probes.probe import Probe, TopKeys


def receivers(k: int = 8, share: float = 1 / 32, name: str = "receivers") -> Probe:
    """The k keys with the highest `received`, a pair of values and indices, [layers, batch, heads, k].

    share: the last keys of a text are left out until this share of its queries has come after them: few queries see
    them, and the mean of a few says little. Where a row has fewer keys than k, values are 0.
    """
    if k < 1 or not 0 <= share < 1:
        raise BadInput(f"receivers({k}, share={share}): give at least one key, and a share in [0, 1)")

    def read(s: Statistics, mask: CompactMask) -> dict[str, Tensor]:
        assert s.received is not None
        first, end = lengths(mask)
        last = (end - 1 - share * (end - first)).to(s.received.device)
        columns = torch.arange(s.received.shape[-1], device=s.received.device) + mask.kv_offset
        seen = s.received * (columns <= last[:, None])[:, None]
        top = seen.topk(min(k, seen.shape[-1]), -1)
        return {"values": top.values, "indices": top.indices + mask.kv_offset}

    def gather(found: object) -> TopKeys:
        return TopKeys(found["values"], found["indices"].long())  # pyright: ignore

    return Probe(name, asks=lambda mask: Reductions(received=True), reads=read, gathers=gather, parts=True, leaves=0.0)
