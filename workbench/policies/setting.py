"""What a policy is asked: a budget for a model and a length of prompt, and the heads under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from workbench.errors import BadInput


class TooTight(BadInput):
    """A budget that a policy cannot meet, or a prompt that its published constants hold as a whole."""


@dataclass(frozen=True, eq=False)
class Setting:
    """budget: share of all key-value entries of `tokens` that may stay (or be read), sinks and windows included.

    layers: those with attention. ranked: key-value heads, the likeliest retrieval heads first. scores: of every query
    head. prefill: see `policies.PREFILLS`; chunk: tokens of one, where it is chunked.
    """

    layers: Sequence[int]
    n_heads: int
    kv_heads: int
    tokens: int
    budget: float
    ranked: Sequence[tuple[int, int]] = ()
    scores: Mapping[int, Float[np.ndarray, " h"]] | None = None
    prefill: str = "full"
    chunk: int = 512

    @property
    def capacity(self) -> int:
        """Entries of a key-value head, if all hold equally many. Raises TooTight where that is none."""
        found = int(self.budget * self.tokens + 1e-9)
        if found < 1:
            raise TooTight(f"budget {self.budget:g} is no whole entry of {self.tokens} tokens")
        return found

    @property
    def group(self) -> int:
        """Query heads that share a key-value head."""
        return self.n_heads // self.kv_heads

    @property
    def size(self) -> int:
        """Key-value heads of the model."""
        return len(self.layers) * self.kv_heads

    def full(self, k: int) -> dict[int, Bool[np.ndarray, " g"]]:
        """Layer by layer, which key-value heads are the first k of the list."""
        if k > len(self.ranked):
            raise TooTight(f"the list has {len(self.ranked)} heads, {k} are to stay full")
        out = {layer: np.zeros(self.kv_heads, dtype=bool) for layer in self.layers}
        for layer, head in self.ranked[:k]:
            out[layer][head] = True
        return out

    def split(self, most_full: float, least: int) -> tuple[int, int]:
        """Full heads, and entries of each other head, that use up the budget.

        Full heads get up to half of the budget, but never more than the share `most_full` of all heads; the others share
        what is left evenly. Raises TooTight where that is below `least` entries.
        """
        half = self.budget * self.size / 2
        k = min(int(most_full * self.size + 1e-9), int(half + 1e-9), len(self.ranked), self.size - 1)
        window = int((self.budget * self.size - k) / (self.size - k) * self.tokens + 1e-9)
        if window < least:
            raise TooTight(f"budget {self.budget:g} leaves {window} of {least} entries for a head that is not full")
        return k, min(window, self.tokens)

    def shorter(self, entries: int) -> int:
        """So many entries, of published constants. Raises TooTight where they hold the whole prompt: nothing is saved."""
        if entries >= self.tokens:
            raise TooTight(f"its published constants hold all of {self.tokens} tokens")
        return entries

    def told(self, **constants: Any) -> dict[str, Any]:
        """Constants for the report, with the prefill."""
        return {**constants, "prefill": self.prefill if self.prefill != "chunked" else f"chunks of {self.chunk}"}
