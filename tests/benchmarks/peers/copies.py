"""The copy score of one sample, written from its definition and apart from workbench's own code.

At the step that produces a token a head copies if the key of its largest attention lies in the answer's span inside
the needle and holds that very token (Wu et al. 2024, arXiv 2404.15574).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MOST_STEPS = 50


@dataclass
class Found:
    """Scores of one sample, [layers, heads], and what the model said."""

    distinct: np.ndarray
    raw: np.ndarray
    response: list[int]


class Copies:
    """Copies of one sample, summed over the steps of its answer."""

    def __init__(self, prompt: Tensor, span: tuple[int, int], layers: int, heads: int) -> None:
        self.prompt, (self.start, self.end) = prompt, span
        self.steps = torch.zeros(layers, heads)
        self.positions = torch.zeros(layers, heads, self.end - self.start, dtype=torch.bool)

    def add(self, keys: Tensor, token: int) -> None:
        """keys: the key of each head's largest attention, [layers, heads], at the step that produced `token`."""
        inside = (keys >= self.start) & (keys < self.end)
        copied = inside & (self.prompt[keys.clamp_max(len(self.prompt) - 1)] == token)
        self.steps += copied
        where = (keys - self.start).clamp(0, self.end - self.start - 1)[..., None]
        self.positions |= torch.zeros_like(self.positions).scatter(-1, where, copied[..., None])

    def found(self, response: list[int]) -> Found:
        """The scores: copies by needle token."""
        n = self.end - self.start
        return Found((self.positions.sum(-1) / n).numpy(), (self.steps / n).numpy(), response)
