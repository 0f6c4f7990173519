"""What a method is asked: some pictures, head scores, a strength, the layers that it may edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from workbench.heads import HeadScores
from workbench.visual_methods.pictures import Pictures


@dataclass(frozen=True, eq=False)
class Asked:
    """One question to a method. control: random heads in the place of its own (see `visual_methods.CONTROLS`)."""

    pictures: Pictures
    scores: Mapping[str, HeadScores]
    strength: float
    layers: tuple[int, ...]
    control: str = ""
    seed: int = 0

    @cached_property
    def rng(self) -> np.random.Generator:
        """What draws random heads."""
        return np.random.default_rng(self.seed)

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """All heads of the layers."""
        return tuple((layer, head) for layer in self.layers for head in range(self.pictures.model.n_heads))

    def score(self, name: str) -> Float[np.ndarray, "layers heads"]:
        """A score of all heads, NaN outside the layers; for a control shuffled within layers, or over all of them."""
        values = np.full(self.scores[name].values.shape, np.nan)
        values[list(self.layers)] = self.scores[name].values[list(self.layers)]
        if not self.control:
            return values
        groups = [[layer] for layer in self.layers] if self.control == "layers" else [list(self.layers)]
        for group in groups:
            held = values[group]
            known = ~np.isnan(held)
            held[known] = self.rng.permutation(held[known])
            values[group] = held
        return values
