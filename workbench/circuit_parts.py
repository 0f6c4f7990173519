"""Places and edges of a circuit: names that need no array."""

from __future__ import annotations

from typing import NamedTuple

Place = tuple[int, int]
"""(layer, head)."""


class Edge(NamedTuple):
    """What a sender tells a receiver, and at which label. receiver None and channel "resid": the logits."""

    sender: Place
    receiver: Place | None
    channel: str
    label: str
