"""LongHeads (Lu et al. 2024, arXiv 2402.10685): every query head reads its own best chunks, the first and the last always.

A chunk stands for itself by the mean of its keys (the paper pools them by attention). Positions stay as they are: the
prompts fit the model, for which the paper's re-mapping is not needed. Nothing is evicted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.policies import Policy
from workbench.policies.reading import best
from workbench.policies.scheme import Reading, Scheme, keep_all
from workbench.policies.setting import Setting, TooTight

CHUNK, CHUNKS = 256, 8
"""The published chunk; chunks that a budget is divided into."""


def _make(setting: Setting) -> Scheme:
    if setting.capacity < 2 * CHUNKS:
        raise TooTight(f"budget {setting.budget:g} leaves {setting.capacity} entries for {CHUNKS} chunks")
    return _scheme(setting, setting.capacity // CHUNKS)


def _published(setting: Setting) -> Scheme:
    return _scheme(setting, setting.shorter(CHUNK * CHUNKS) // CHUNKS)


def _scheme(setting: Setting, chunk: int) -> Scheme:
    def read(layer: int, asked: Reading) -> Tensor:
        return chunks_read(asked, chunk, CHUNKS)

    return Scheme(keep_all, setting.told(chunk=chunk, chunks=CHUNKS), read=read)


def chunks_read(asked: Reading, chunk: int, most: int) -> Tensor:
    """Keys of the first chunk, of the last, and of those whose mean score is highest, `most` chunks in all."""
    there = asked.at >= 0
    ids = asked.at.clamp_min(0) // chunk
    last = ids.masked_fill(~there, -1).max(-1, keepdim=True).values
    many = int(last.max()) + 1
    place = ids[:, None, None].expand_as(asked.scores)
    finite = asked.scores.masked_fill(~asked.scores.isfinite(), 0.0)
    total = finite.new_zeros(*finite.shape[:-1], many).scatter_add_(-1, place, finite)
    count = finite.new_zeros(len(ids), many).scatter_add_(1, ids, there.to(finite.dtype))
    ends = torch.arange(many, device=ids.device)
    always = (ends == 0) | (ends == last)
    mean = (total / count[:, None, None].clamp_min(1)).masked_fill(
        (always | (count == 0))[:, None, None], float("-inf")
    )
    won = best(mean, most - 2) | always[:, None, None]
    return won.gather(-1, place) & there[:, None, None]


POLICY = Policy(
    "longheads",
    "LongHeads: every query head reads its best chunks, the first and the last always; nothing is evicted",
    "arXiv 2402.10685",
    _make,
    _published,
)
