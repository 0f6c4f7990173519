"""What a case of a simulation takes: by this the cases of a chunk are counted out to a budget of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.footprint import cache_bytes, forward_bytes, head_dim
from workbench.policies.scheme import OBSERVED
from workbench.simulation.cases import Case
from workbench.simulation.windowed import ROWS

READINGS = 3
"""Prompts held at a time: read by plain attention, once more with what all rows look at, and as a policy reads them."""


def bytes_of_case(model: Any, cases: Sequence[Case]) -> int:
    """Bytes that the longest of some cases takes while policies are asked about it.

    Counted are the readings (keys, values, last queries, what these look at), the cut cache, the larger of the two
    forwards with its logits, and the scores of what is decoded or of a block of streaming rows.
    """
    n, steps = max(len(c.tokens) for c in cases), max(len(c.steps) for c in cases)
    ends = [len(c.tokens) - 1 for c in cases]
    told = max(ends) - min(e - c.scored for e, c in zip(ends, cases, strict=True))
    layers, heads = model.n_layers, model.n_heads
    looks = 4 * layers * heads * n
    last = layers * heads * min(OBSERVED, n) * head_dim(model) * model.dtype.itemsize
    reading = cache_bytes(model, n) + last + looks
    scores = 4 * 4 * heads * max(steps, min(ROWS, n)) * (n + steps)
    forward = max(forward_bytes(model, n, told), forward_bytes(model, steps, steps))
    logits = (told + steps) * int(model.bridge.cfg.d_vocab) * model.dtype.itemsize
    return READINGS * reading + looks + cache_bytes(model, n) + forward + scores + logits
