"""Token codes of the planted models: 32 numbers a word, nearly orthogonal, where one-hots would need 341."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

OWN = ("is", ".", "answer", "?", "<bos>")
"""Tokens that some head treats by name. Each has a dimension of its own, so that this makes no noise elsewhere."""
WORD = 32
CODE = WORD + len(OWN)
SQUARE = 2.0
"""Every code's inner product with itself. Entries of words are then ±1/4, which bfloat16 holds exactly."""


def own(token: str) -> int:
    """The dimension of a token's own within a code."""
    return WORD + OWN.index(token)


@functools.cache
def codes() -> Float[Tensor, "vocabulary code"]:
    """The code of every token; two codes' inner product is at most SQUARE / 4."""
    import torch

    from workbench.reference_models.recipes.grammar import VOCABULARY

    out = torch.zeros(len(VOCABULARY), CODE)
    words = [i for i, token in enumerate(VOCABULARY) if token not in OWN]
    out[words, :WORD] = _bases(len(words)) * (SQUARE / WORD) ** 0.5
    for token in OWN:
        out[VOCABULARY.index(token), own(token)] = SQUARE**0.5
    return out


def _bases(n: int) -> Float[Tensor, "n word"]:
    """At least n rows of ±1: Walsh bases times the signs of quadratic forms, kept where they meet the others evenly.

    Within a basis rows are orthogonal; between bases the inner products are 0 or ±WORD / 4, the least there is for
    five binary variables (as in Gold codes).
    """
    import torch

    bits = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5)))
    walsh = (-1) ** (bits @ bits.T)
    products = torch.stack([bits[:, i] * bits[:, j] for i, j in itertools.combinations(range(5), 2)])
    signs: list[Tensor] = []
    for form in itertools.product((0.0, 1.0), repeat=len(products)):
        sign = (-1) ** (torch.tensor(form) @ products)
        if all((walsh @ (sign * other)).abs().max() <= WORD / 4 for other in signs):
            signs.append(sign)
        if len(signs) * WORD >= n:
            break
    return torch.cat([walsh * sign for sign in signs])[:n]
