"""What attention is asked: which keys a query sees, what to bring back, what to change.

Letters in shapes: b batch, h query heads, g kv heads, q queries, k keys, d head dimension, r chosen rows, s spans.
A per-head parameter is [b or 1, h]: each batch row may carry its own edits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(batch index, head index, query position, key position) broadcast together to a boolean: may it be seen?"""


@dataclass(frozen=True)
class AttentionSpec:
    """The geometry of one attention call; never an N×N mask.

    Query i stands at position q_offset + i, key j at kv_offset + j. `allowed` None means causal; then `sliding` may say
    that a query sees its last so many keys only, itself included. `reach` is a lower bound for the keys that `allowed`
    can admit: older keys are not even looked at. `first` is the position of each row's first valid token, for caches that
    have dropped it. Raises ValueError for `sliding` beside `allowed`, or below 1.
    """

    scale: float
    q_offset: int = 0
    kv_offset: int = 0
    padding: Bool[Tensor, "b k"] | None = None
    allowed: MaskFunction | None = None
    sliding: int | None = None
    reach: int | None = None
    first: Int[Tensor, " b"] | None = None
    softcap: float | None = None
    sink_logits: Float[Tensor, " h"] | None = None

    def __post_init__(self) -> None:
        if self.sliding is not None and (self.allowed is not None or self.sliding < 1):
            raise ValueError(f"sliding={self.sliding} needs to be at least 1, and no mask function beside it")

    def causal(self, n: int) -> bool:
        """Whether the first n queries see every key before them, padding aside."""
        wide = self.sliding is None or self.sliding >= n + self.q_offset - self.kv_offset
        return self.allowed is None and wide

    def visible(self, queries: Int[Tensor, "#b q"], keys: slice, batch: int) -> Bool[Tensor, "#b 1 q k"]:
        """Which keys of a slice the chosen queries see; the batch axis is 1 where rows do not differ."""
        device = queries.device
        q = queries[:, None, :, None] + self.q_offset
        k = torch.arange(keys.start, keys.stop, device=device)[None, None, None, :] + self.kv_offset
        if self.allowed is None:
            mask = k <= q
            mask = mask if self.sliding is None else mask & (q - k < self.sliding)
        else:
            b = torch.arange(batch, device=device)[:, None, None, None]
            mask = self.allowed(b, torch.zeros_like(b), q, k)
        if self.padding is not None:
            mask = mask & self.padding[:, None, None, keys].to(device)
        return mask

    def keys(self, start: int, stop: int, n_keys: int) -> slice:
        """The keys that queries start…stop can see at all."""
        reach = self.sliding if self.allowed is None else self.reach
        low = 0 if reach is None else start + self.q_offset - self.kv_offset - reach + 1
        high = stop + self.q_offset - self.kv_offset if self.allowed is None or self.reach is not None else n_keys
        return slice(max(0, min(low, n_keys)), max(0, min(high, n_keys)))

    def first_valid(self, batch: int, device: torch.device) -> Int[Tensor, " b"]:
        """Position of each row's first token that is not padding."""
        if self.first is not None:
            return self.first.to(device)
        if self.padding is None:
            return torch.zeros(batch, dtype=torch.long, device=device)
        return self.padding.to(device).int().argmax(-1).long() + self.kv_offset


CLASSES = 4
"""Key classes that may be live in one head, besides class 0: the other keys."""
NOBODY, OTHERS, ALL = 0, 1, 2
"""Values of `HeadEdits.freed`: who gets the mass that a class gain frees."""


@dataclass(frozen=True)
class RowPatterns:
    """Rows of the pattern that are replaced: in each of `heads`, query rows[i] gives weights[i, j] to key keys[i, j].

    Keys that are not named get nothing. rows are indices of the query axis, keys of the key axis.
    """

    heads: Bool[Tensor, "#b h"] | Bool[Tensor, "#b h r"]
    rows: Int[Tensor, "#b r"]
    keys: Int[Tensor, "#b r n"]
    weights: Float[Tensor, "#b r n"]


@dataclass(frozen=True)
class HeadEdits:
    """What to change, per head, applied in this order whatever the order of the fields.

    bias, boost: per key class, before the softmax: boost adds boost · |score| (PAI), then bias is added.
    window: the head sees only its first `sink` valid keys and its last `window` ones; 0 means no window.
    rows: replaced rows of the pattern, after the softmax.
    class_gain: per key class, after the softmax: the class's weights are multiplied by it, in the rows where the mass
    of the class exceeds least_mass. freed says what becomes of the mass that is then missing (or too much): 0 nothing;
    1 keys of class 0 get it in proportion to their weights (a row without such mass is left as it was; where gains above 1
    take more than they have, they are left with nothing and the row sums to more than before); 2 the row is normalised
    over all keys. key_class: class of each key, 0 to CLASSES; 0 always has gain 1. It may be longer than the keys: a text
    grows, and its edits stay what they are.
    Column i of the class tables is class i + 1; missing columns are neutral.
    uniform: the head attends evenly to every key that it may see.
    gain: the head's output is multiplied by it.
    replace/replacement: the head's output is replaced (mean or resample ablation, patching).
    queries: the edits hold in these rows of the query axis only; None means in all.
    """

    gain: Float[Tensor, "#b h"] | None = None
    uniform: Bool[Tensor, "#b h"] | None = None
    window: Int[Tensor, "#b h"] | None = None
    sink: int = 4
    replace: Bool[Tensor, "#b h"] | None = None
    replacement: Float[Tensor, "#b h #q d"] | None = None
    queries: Bool[Tensor, "#b q"] | None = None
    key_class: Int[Tensor, "#b #h k"] | None = None
    class_gain: Float[Tensor, "#b h c"] | None = None
    least_mass: Float[Tensor, "#b h c"] | None = None
    freed: Int[Tensor, "#b h"] | None = None
    bias: Float[Tensor, "#b h c"] | None = None
    boost: Float[Tensor, "#b h c"] | None = None
    rows: RowPatterns | None = None

    @property
    def reshapes_pattern(self) -> bool:
        """Whether a head's pattern differs from the plain softmax."""
        fields = (self.uniform, self.window, self.class_gain, self.bias, self.boost, self.rows)
        return any(f is not None for f in fields)


Edits = HeadEdits | Sequence[HeadEdits] | None
"""Edits of one call; several where phases are edited differently: no query is in the `queries` of two of them."""


def phases(edits: Edits) -> tuple[HeadEdits, ...]:
    """The edits as a tuple, empty where there are none."""
    return () if edits is None else (edits,) if isinstance(edits, HeadEdits) else tuple(edits)


@dataclass(frozen=True)
class Matches:
    """Keys that match a query: key j of list l where keys[l, j] == queries[i], at or before it. Labels are whole numbers.

    least: of each list, the weight below which a key counts as nothing.
    """

    queries: Int[Tensor, "b q"]
    keys: Int[Tensor, "b l k"]
    least: tuple[float, ...]


@dataclass(frozen=True)
class Reductions:
    """What to bring back besides the output; all exact, of the pattern as edited.

    lse: log-sum-exp of each query's scores. received: mean attention that a key gets from the valid queries that see
    it. offsets: attention that each query pays to the key so many positions before it (0 where there is none).
    entropy: of each row, in nats (a learned sink's share is no key and not in the sum). distance: mean mass of a head
    in the distance bins 0, 1, 2–3, 4–7, … profile: the same of each row. moments: Σ p·d and Σ p·d² of each row, d the
    distance. matches: mass of each row on the keys that match its query, list by list (`Matches`). thumbnail: the
    pattern in so many blocks a side (the first ones, where a text has fewer positions). norms: of each head's output,
    as edited. sink_mass: the learned sink's share of each row.
    rows: query indices per batch row at which top_k keys and the mass on spans are wanted; None means all of them.
    grad: with gradients (`differentiable`), where autograd records; without, all of them are detached.
    """

    lse: bool = False
    received: bool = False
    offsets: tuple[int, ...] = ()
    entropy: bool = False
    distance: bool = False
    profile: bool = False
    moments: bool = False
    matches: Matches | None = None
    thumbnail: int = 0
    norms: bool = False
    sink_mass: bool = False
    rows: Int[Tensor, "b r"] | None = None
    top_k: int = 0
    spans: Int[Tensor, "b s 2"] | None = None
    grad: bool = False

    @property
    def whole_rows(self) -> bool:
        """Whether every row of the pattern must be seen."""
        every = self.rows is None and (self.top_k > 0 or self.spans is not None)
        flags = (self.lse, self.received, self.offsets, self.entropy, self.distance, self.thumbnail, self.sink_mass)
        return every or any(flags) or bool(self.swept)

    @property
    def swept(self) -> tuple[str, ...]:
        """What is asked that only the sweep over blocks of whole rows gives, by name: without gradients, not by Triton."""
        return tuple(name for name in ("profile", "moments", "matches") if getattr(self, name))


@dataclass
class Statistics:
    """The reductions that were asked for; the others are None. r is q where all rows were asked for.

    left_out: keys that were taken out of the pattern beforehand, where somebody did so.
    """

    lse: Float[Tensor, "b h q"] | None = None
    received: Float[Tensor, "b h k"] | None = None
    at_offset: Float[Tensor, "b h q o"] | None = None
    entropy: Float[Tensor, "b h q"] | None = None
    distance: Float[Tensor, "b h bins"] | None = None
    profile: Float[Tensor, "b h q bins"] | None = None
    moments: Float[Tensor, "b h q 2"] | None = None
    matched: Float[Tensor, "b h q l"] | None = None
    thumbnail: Float[Tensor, "b h 2 n n"] | None = None
    norms: Float[Tensor, "b h q"] | None = None
    sink_mass: Float[Tensor, "b h q"] | None = None
    top_values: Float[Tensor, "b h r n"] | None = None
    top_indices: Int[Tensor, "b h r n"] | None = None
    mass: Float[Tensor, "b h r s"] | None = None
    left_out: Bool[Tensor, "b h k"] | None = None
