"""The rule that finds attention sinks in a head (ACT, Yu et al. 2024, arXiv 2406.15765)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class SinkRule:
    """A key is a sink where the attention that it receives exceeds a/N, or `absolute` where that is given."""

    a: float
    absolute: float | None = None

    def __call__(self, received: Float[Tensor, "b h k"], tokens: Int[Tensor, " b"]) -> Bool[Tensor, "b h k"]:
        """received: mean over the valid queries that see a key; tokens: N, the valid tokens of each row."""
        if self.absolute is not None:
            return received > self.absolute
        return received > (self.a / tokens.clamp_min(1))[:, None, None]
