"""What the honest table is asked. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableConfig:
    """methods: names, empty for all. batch: pictures in one forward. longest: tokens of a caption, at most.

    controls: random lists of heads of either kind beside each method that chooses heads; 0: none. draws: bootstrap
    samples of the pictures. drops: recall that may be lost, of one. questions: of POPE, about each reported picture, on as
    many objects that are there as on others; 0: none. tau: Φ of a visual sink, for methods that move attention off sinks;
    None: that of the model's width.
    """

    methods: tuple[str, ...] = ()
    batch: int = 192
    longest: int = 48
    controls: int = 2
    draws: int = 2000
    drops: tuple[float, ...] = (0.0, 0.01, 0.03)
    questions: int = 2
    seed: int = 0
    tau: float | None = None
