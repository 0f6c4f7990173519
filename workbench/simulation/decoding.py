"""Decoding, teacher-forced, from the cut cache: all steps of all prompts are rows of one forward.

A step sees what its cache holds at that step, and the steps before it: the same as one token at a time, since layers are
causal and no policy here looks at a later step.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from workbench_kernels import AttentionSpec

from workbench.policies.scheme import Kept, Reading, Scheme
from workbench.simulation.compact import Bucket, compact
from workbench.simulation.reading_prompts import Prompts, run
from workbench.simulation.tally import Tally
from workbench.simulation.windowed import Rotary

Packs = dict[int, tuple[list[Kept], list[Bucket]]]
"""What a cut left, by layer."""


@torch.no_grad()
def decode(
    model: Any, prompts: Prompts, scheme: Scheme, packs: Packs | None = None
) -> tuple[Float[Tensor, "b t v"], Tally]:
    """Logits of every decoded token's row, and what was kept and read for them.

    packs: what an earlier call with these prompts and this scheme left there; the cache is then not cut again.
    """
    batch, rows = prompts.batch, range(len(prompts.batch.cases))
    packs = {} if packs is None else packs
    tally = Tally.of(batch)
    tally.prefill = prompts.products
    clock = time.process_time if batch.tokens.device.type == "cpu" else time.perf_counter  # other work does not count
    rotary = Rotary.of(model) if scheme.renumbered else None

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        if layer not in packs:
            kept = [scheme.keep(layer, prompts.seen(layer, row)) for row in rows]
            packs[layer] = kept, compact(prompts, layer, kept)
        kept, buckets = packs[layer]
        tally.hold(layer, kept)
        started, z = clock(), torch.zeros_like(q)
        step = _Step(q, k, v, spec.scale, prompts, layer, kept[0].caches)
        for bucket in buckets:
            _decode_bucket(layer, bucket, step, scheme, rotary, z, tally)
        tally.seconds += clock() - started
        return z

    logits = run(model, batch.steps, attention, slice(0, batch.steps.shape[1]), batch.positions)
    return logits, tally


class _Step:
    """The decoded tokens' queries, keys and values in one layer, with how many caches each prompt has there."""

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, prompts: Prompts, layer: int, caches: int
    ) -> None:
        self.q, self.k, self.v, self.scale, self.batch, self.caches = q, k, v, scale, prompts.batch, caches
        self.prompts, self.layer = prompts, layer

    def before(self, bucket: Bucket, start: Int[Tensor, " p"]) -> Float[Tensor, "p r m"]:
        """Scores of the prompt's row right before the first step."""
        q = self.prompts.before(self.layer).unflatten(1, (self.caches, -1))[bucket.rows, bucket.caches]
        there = (bucket.at >= 0) & (bucket.at < start[:, None])
        scores = _products(q[:, :, None], bucket.keys)[:, :, 0] * self.scale
        return scores.masked_fill(~there[:, None], float("-inf"))

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
    scores.masked_fill_(~seen[:, None], float("-inf"))
    read = None
    if scheme.read is not None:
        lengths = step.batch.prefix[bucket.rows]
        asked = Reading(scores, bucket.at, at, lengths, bucket.rows, lambda: step.before(bucket, at[:, 0]))
        read = scheme.read(layer, asked) & seen[:, None]
        scores = scores.masked_fill(~read, float("-inf"))
    tally.read(bucket, seen, read, own, q.shape[1])
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
