"""What attention is asked: which keys a query sees, what to bring back, what to change.

Letters in shapes: b batch, h query heads, g kv heads, q queries, k keys, d head dimension, r chosen rows, s spans.
A per-head parameter is [b or 1, h]: each batch row may carry its own edits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(batch index, head index, query position, key position) broadcast together to a boolean: may it be seen?"""


@dataclass(frozen=True)
class AttentionSpec:
    """The geometry of one attention call; never an N×N mask.

    Query i stands at position q_offset + i, key j at kv_offset + j. `allowed` None means causal. `reach` is a lower
    bound for the keys that `allowed` can admit (a sliding window's size): older keys are not even looked at. `first` is
    the position of each row's first valid token, for caches that have dropped it.
    """

    scale: float
    q_offset: int = 0
    kv_offset: int = 0
    padding: Bool[Tensor, "b k"] | None = None
    allowed: MaskFunction | None = None
    reach: int | None = None
    first: Int[Tensor, " b"] | None = None
    softcap: float | None = None
    sink_logits: Float[Tensor, " h"] | None = None

    def visible(self, queries: Int[Tensor, "#b q"], keys: slice, batch: int) -> Bool[Tensor, "#b 1 q k"]:
        """Which keys of a slice the chosen queries see; the batch axis is 1 where rows do not differ."""
        device = queries.device
        q = queries[:, None, :, None] + self.q_offset
        k = torch.arange(keys.start, keys.stop, device=device)[None, None, None, :] + self.kv_offset
        if self.allowed is None:
            mask = k <= q
        else:
            b = torch.arange(batch, device=device)[:, None, None, None]
            mask = self.allowed(b, torch.zeros_like(b), q, k)
        if self.padding is not None:
            mask = mask & self.padding[:, None, None, keys].to(device)
        return mask

    def keys(self, start: int, stop: int, n_keys: int) -> slice:
        """The keys that queries start…stop can see at all."""
        low = 0 if self.reach is None else start + self.q_offset - self.kv_offset - self.reach + 1
        high = stop + self.q_offset - self.kv_offset if self.allowed is None or self.reach is not None else n_keys
        return slice(max(0, min(low, n_keys)), max(0, min(high, n_keys)))

    def first_valid(self, batch: int, device: torch.device) -> Int[Tensor, " b"]:
        """Position of each row's first token that is not padding."""
        if self.first is not None:
            return self.first.to(device)
        if self.padding is None:
            return torch.zeros(batch, dtype=torch.long, device=device)
        return self.padding.to(device).int().argmax(-1).long() + self.kv_offset


@dataclass(frozen=True)
class HeadEdits:
    """What to change, per head: applied as window, softmax, uniform, gain, replacement.

    gain: the head's output is multiplied by it.
    uniform: the head attends evenly to every key that it may see.
    window: the head sees only its first `sink` valid keys and its last `window` ones; 0 means no window.
    replace/replacement: the head's output is replaced (mean or resample ablation).
    queries: the edits hold in these rows of the query axis only; None means in all.
    """

    gain: Float[Tensor, "#b h"] | None = None
    uniform: Bool[Tensor, "#b h"] | None = None
    window: Int[Tensor, "#b h"] | None = None
    sink: int = 4
    replace: Bool[Tensor, "#b h"] | None = None
    replacement: Float[Tensor, "#b h #q d"] | None = None
    queries: Bool[Tensor, "#b q"] | None = None

    @property
    def reshapes_pattern(self) -> bool:
        """Whether a head's pattern differs from the plain softmax."""
        return self.uniform is not None or self.window is not None


@dataclass(frozen=True)
class Reductions:
    """What to bring back besides the output; all exact, of the pattern as edited.

    lse: log-sum-exp of each query's scores. received: mean attention that a key gets from the valid queries that see
    it. offsets: attention that each query pays to the key so many positions before it (0 where there is none).
    rows: query indices per batch row at which top_k keys and the mass on spans are wanted.
    """

    lse: bool = False
    received: bool = False
    offsets: tuple[int, ...] = ()
    rows: Int[Tensor, "b r"] | None = None
    top_k: int = 0
    spans: Int[Tensor, "b s 2"] | None = None


@dataclass
class Statistics:
    """The reductions that were asked for; the others are None."""

    lse: Float[Tensor, "b h q"] | None = None
    received: Float[Tensor, "b h k"] | None = None
    at_offset: Float[Tensor, "b h q o"] | None = None
    top_values: Float[Tensor, "b h r n"] | None = None
    top_indices: Int[Tensor, "b h r n"] | None = None
    mass: Float[Tensor, "b h r s"] | None = None
