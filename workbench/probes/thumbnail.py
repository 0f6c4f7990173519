"""Thumbnail: a pattern of any length as a small picture, and the keys that stand out of it."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor
from workbench_kernels import Reductions, Statistics

from workbench.errors import BadInput
from workbench.masks import CompactMask
from workbench.probes.probe import Probe

KEYS = 8


class Thumbnails(NamedTuple):
    """pooled: channel 0 the mean over a block's queries of the mass on its keys, channel 1 its largest weight.

    keys, weights: columns of most received attention and how much they receive, [layers, batch, heads, 8].
    """

    pooled: Float[Tensor, "layers b h 2 n n"]
    keys: Int[Tensor, "layers b h k"]
    weights: Float[Tensor, "layers b h k"]


def thumbnail(n: int = 64, name: str = "thumbnail") -> Probe:
    """The whole pattern in n × n blocks, see Thumbnails. Rows of channel 0 sum to one where blocks hold queries."""
    if n < 1:
        raise BadInput(f"thumbnail({n}): give at least one block a side")

    def read(s: Statistics, mask: CompactMask) -> dict[str, Tensor]:
        assert s.thumbnail is not None and s.received is not None
        top = s.received.topk(min(KEYS, s.received.shape[-1]), -1)
        return {"": s.thumbnail, "keys": top.indices + mask.kv_offset, "weights": top.values}

    def gather(found: object) -> Thumbnails:
        return Thumbnails(found[""], found["keys"].long(), found["weights"])  # pyright: ignore

    return Probe(name, asks=lambda mask: Reductions(thumbnail=n, received=True), reads=read, gathers=gather, parts=True)
