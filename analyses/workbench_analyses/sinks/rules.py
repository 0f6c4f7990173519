"""When a key is an attention sink: the rules of the literature, and the corrected one.

received: α, mean attention of the valid queries that see a key. even: the α of an even head under the same mask.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

LEAST_QUERIES = 32
SHARE_OF_TEXT = 8
HELD = 0.5

Received = Float[Tensor, "layers b heads keys"]
ByKey = Float[Tensor, "layers b keys"]
Flags = Bool[Tensor, "layers b heads keys"]


def paper(received: Received, a: float, n: int) -> Flags:
    """α > a/N (Yu et al. 2024, arXiv 2406.15765). Flags even heads at key 0 from N ≈ 83 on, and late keys of others."""
    return received > a / n


def absolute(received: Received, threshold: float) -> Flags:
    """α above a number: the rule in the authors' code, the paper's at N = a / threshold."""
    return received > threshold


def enough_queries(queries: Float[Tensor, "*keys"], n: int) -> Bool[Tensor, "*keys"]:
    """Keys of which something can be said: at least max(32, N/8) valid queries see them."""
    return queries >= max(LEAST_QUERIES, n / SHARE_OF_TEXT)


def candidates(received: Received, even: ByKey, queries: ByKey, a: float, n: int) -> Flags:
    """The corrected rule but for its last condition, which needs a look at the rows: see `corrected`.

    A key with n_k ≥ max(32, N/8) valid queries, α > a·u with u of an even head, and a column sum that exceeds what the
    mask explains by more than one query's worth: n_k·α > 1 + n_k·u. Of any head that looks at its last w keys, or at a
    fixed distance, a column sums to at most one; without this condition windows of N/8 to N/5 would be sinks.
    """
    enough = enough_queries(queries, n)
    level = (a * even).maximum(even + 1 / queries.clamp_min(1))
    return enough[:, :, None] & (received > level[:, :, None])


def corrected(held: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """A candidate is a sink if at least half of the queries that see it give it more than an even head would."""
    return held >= HELD
