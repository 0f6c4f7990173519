"""Costs of a simulation, as shares of the full cache and in bytes and operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.policies.scheme import Scheme, Streams
from workbench.simulation.tally import Tally


@dataclass(frozen=True)
class Costs:
    """Of one prompt.

    kept, read: mean over the decoded steps of key-value entries held, and read, in shares of the full cache's at that
    step. peak: most entries while the prompt was read, layer after layer being cut, as a share of the full cache. bytes,
    paged_bytes: of the entries held at the last step, as they are and in whole pages. decode_flops: of attention (scores
    and values), mean of a step; prefill_flops: of the whole prompt; prefill_share: of plain attention's.
    """

    kept: float
    read: float
    peak: float
    bytes: float
    paged_bytes: float
    decode_flops: float
    prefill_flops: float
    prefill_share: float


def costs(model: Any, tally: Tally, scheme: Scheme, head_dim: int, width: int) -> list[Costs]:
    """Of every prompt. head_dim: of a key plus of a value; width: bytes of a number."""
    g, h, layers = model.n_kv_heads, model.n_heads, sorted(tally.prompt)
    full = g * len(layers)
    held = torch.stack([tally.prompt[layer] for layer in layers])  # [layers, b]
    out = []
    for row, (steps, case) in enumerate(zip(tally.batch.counts, tally.batch.cases, strict=True)):
        prefix, there = case.prefix, full * (case.start + 1.0 + torch.arange(steps))
        kept, reads, products = (x[row, :steps] for x in (tally.kept, tally.reads, tally.products))
        plain = len(layers) * h * prefix * (prefix + 1) / 2
        seen = plain if tally.prefill is None else float(tally.prefill[row])
        out.append(
            Costs(
                float((kept / there).mean()), float((reads / there).mean()),
                peak(held[:, row], scheme, g, prefix) / (full * prefix),
                float(kept[-1]) * head_dim * width, float(tally.paged[row, steps - 1]) * head_dim * width,
                float(products.mean()) * 2 * head_dim, seen * 2 * head_dim, seen / plain,
            )
        )  # fmt: skip
    return out


def peak(held: Float[Tensor, " layers"], scheme: Scheme, g: int, prefix: int) -> float:
    """Most entries at a time: layers below hold what is kept of them, the layer at work all that its rows see.

    Where the prompt is read in windows no layer ever holds more than its cache, and the chunk at work. Layers that are cut
    together are all held before.
    """
    if isinstance(scheme.prefill, Streams):
        return float(held.sum()) + g * min(scheme.prefill.chunk, prefix)
    if scheme.together:
        return float(g * prefix * len(held))
    below = torch.cat([held.new_zeros(1), held.cumsum(0)[:-1]])
    return float((below + g * prefix).max())
