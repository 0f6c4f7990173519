"""Decoding, teacher-forced, from the cut cache: all steps of all prompts are rows of one forward.

A step sees what its cache holds at that step, and the steps before it: the same as one token at a time, since layers are
causal and no policy here looks at a later step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from workbench_kernels import AttentionSpec

from workbench.policies.scheme import Kept, Reading, Scheme
from workbench.simulation.cases import Batch
from workbench.simulation.compact import Bucket, compact
from workbench.simulation.reading_prompts import Prompts, run
from workbench.simulation.tally import Tally
from workbench.simulation.windowed import Rotary


@torch.no_grad()
def decode(model: Any, prompts: Prompts, scheme: Scheme) -> tuple[Float[Tensor, "b t v"], Tally]:
    """Logits of every decoded token's row, and what was kept and read for them."""
    batch, rows = prompts.batch, range(len(prompts.batch.cases))
    tally = Tally.of(batch)
    rotary = Rotary.of(model) if scheme.renumbered else None

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        kept = [scheme.keep(layer, prompts.seen(layer, row)) for row in rows]
        tally.hold(layer, kept)
        z = torch.zeros_like(q)
        for bucket in compact(prompts, layer, kept):
            _decode_bucket(layer, bucket, _Step(q, k, v, spec.scale, batch, kept), scheme, rotary, z, tally)
        return z

    logits = run(model, batch.steps, attention, slice(0, batch.steps.shape[1]), batch.positions)
    return logits, tally


class _Step:
    """The decoded tokens' queries, keys and values in one layer, with how many caches each prompt has there."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, scale: float, batch: Batch, kept: Sequence[Kept]) -> None:
        self.q, self.k, self.v, self.scale, self.batch, self.caches = q, k, v, scale, batch, kept[0].caches

    def of(self, bucket: Bucket) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries [p, r, t, d], keys and values [p, t, d] and positions [p, t] of a bucket's pairs."""
        b, h, t, d = self.q.shape
        head = bucket.caches * self.k.shape[1] // self.caches
        q = self.q.view(b, self.caches, h // self.caches, t, d)[bucket.rows, bucket.caches]
        return q, self.k[bucket.rows, head], self.v[bucket.rows, head], self.batch.positions[bucket.rows]


def _decode_bucket(
    layer: int, bucket: Bucket, step: _Step, scheme: Scheme, rotary: Rotary | None, z: Tensor, tally: Tally
) -> None:
    """Write the outputs of a bucket's heads into z."""
    q, k, v, at = step.of(bucket)
    b, h, t, _ = step.q.shape
    seen, own = bucket.seen(at), bucket.own(t)
    scores = _products(q, bucket.keys)
    if rotary is not None:
        _move_sinks(scores, q, bucket, at, seen.sum(-1) + own.sum(-1), rotary)
    scores = scores * step.scale if bucket.bias is None else scores * step.scale + bucket.bias[:, None, None]
    scores = scores.masked_fill(~seen[:, None], float("-inf"))
    if scheme.read is not None:
        lengths = step.batch.prefix[bucket.rows]
        read = scheme.read(layer, Reading(scores, bucket.at, at, lengths, bucket.rows)) & seen[:, None]
        scores = scores.masked_fill(~read, float("-inf"))
    else:
        read = seen[:, None].expand_as(scores)
    tally.read(bucket, seen, read, own)
    new = (_products(q, k) * step.scale).masked_fill(~own[:, None], float("-inf"))
    weights = torch.cat([scores, new], -1).softmax(-1).to(v.dtype).flatten(1, 2)
    out = weights[..., :-t] @ bucket.values + weights[..., -t:] @ v
    z.view(b, step.caches, h // step.caches, t, -1)[bucket.rows, bucket.caches] = out.unflatten(1, (-1, t))


def _products(q: Float[Tensor, "p r t d"], k: Float[Tensor, "p m d"]) -> Float[Tensor, "p r t m"]:
    """In float32 at least; the keys of a group are not repeated."""
    scores = q.flatten(1, 2) @ k.mT
    return scores.to(torch.promote_types(scores.dtype, torch.float32)).unflatten(1, q.shape[1:3])


def _move_sinks(
    scores: Float[Tensor, "p r t m"], q: Tensor, bucket: Bucket, at: Int[Tensor, "p t"], held: Int[Tensor, "p t"],
    rotary: Rotary,
) -> None:  # fmt: skip
    """Entries that stay whatever comes are scored as if they stood right before the window."""
    sinks = int(bucket.stays.sum(-1).max())
    turned = rotary.turn(q, (held - at - 1)[:, None].expand(q.shape[:-1]))
    near = _products(turned, bucket.keys[:, :sinks])
    scores[..., :sinks] = torch.where(bucket.stays[:, None, None, :sinks], near, scores[..., :sinks])
