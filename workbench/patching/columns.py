"""Columns of a batch of prompts: where each row ends, which column a position means, gathering them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from workbench.errors import BadInput

At = int | Sequence[int] | Tensor
"""A column of the tokens as passed, the same for every batch row or one per row; negative ones count back from the row's
last valid token."""


def text_mask(tokens: Int[Tensor, "b n"], attention_mask: Tensor | None) -> Bool[Tensor, "b n"]:
    """Which columns are text. Raises BadInput for a mask of another shape or with a row of padding only."""
    if attention_mask is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    mask = attention_mask.to(tokens.device).bool()
    if mask.shape != tokens.shape or not bool(mask.any(-1).all()):
        raise BadInput(f"attention_mask of shape {list(mask.shape)}: give [batch, seq] with text in every row")
    return mask


def last(text: Bool[Tensor, "b n"]) -> Int[Tensor, " b"]:
    """The last valid column of each row."""
    return text.shape[1] - 1 - text.flip(-1).int().argmax(-1)


def column_of(at: At, text: Bool[Tensor, "b n"]) -> Int[Tensor, " b"]:
    """The column that `at` means in each row. Raises BadInput for one on padding or outside the tokens."""
    given = torch.as_tensor(at, device=text.device)
    if given.is_floating_point() or given.dim() > 1 or given.numel() not in (1, len(text)):
        raise BadInput(f"at={at}: give one whole number, or one for each of the {len(text)} batch rows")
    given = given.long().expand(len(text))
    out = torch.where(given < 0, last(text) + 1 + given, given)
    inside = (out >= 0) & (out < text.shape[1])
    if not bool((inside & text.gather(1, out.clamp(0, text.shape[1] - 1)[:, None])[:, 0]).all()):
        raise BadInput(f"at={at}: on padding or outside the text of a row")
    return out


def take(x: Shaped[Tensor, "#b n *rest"], columns: Int[Tensor, "b m"]) -> Shaped[Tensor, "b m *rest"]:
    """Columns of each row; a batch axis of 1 serves all rows."""
    rows = torch.arange(len(columns), device=x.device)[:, None] if len(x) > 1 else 0
    return x[rows, columns]
