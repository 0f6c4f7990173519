"""Vertical-slash heads while the prompt is read: columns and diagonals that its last rows attend to (MInference)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.policies.scheme import OBSERVED, Slashes
from workbench.simulation.windowed import ROWS, grouped


def slashed(
    q: Float[Tensor, "h n d"], k: Float[Tensor, "g n d"], v: Float[Tensor, "g n d"], scale: float, slashes: Slashes
) -> tuple[Float[Tensor, "h n d"], float]:
    """Outputs of one prompt's query heads, each along its own lines, and how many (query head, key) products they took."""
    columns, distances = lines(q, k, scale, slashes)
    h, n, _ = q.shape
    out, products = [], 0.0
    for start in range(0, n, ROWS):
        rows = torch.arange(start, min(n, start + ROWS), device=q.device)
        keys = torch.arange(int(rows[-1]) + 1, device=q.device)
        back = rows[:, None] - keys
        seen = (columns[:, None, : len(keys)] | distances[:, back.clamp_min(0)]) & (back >= 0)
        scores = grouped(q[None, :, rows], k[None, :, keys])[0].mul_(scale).masked_fill_(~seen, float("-inf"))
        weights = scores.softmax(-1).to(v.dtype)
        out.append((weights.view(len(k), -1, len(keys)) @ v[:, keys]).view(h, len(rows), -1))
        products += float(seen.sum())
    return torch.cat(out, 1), products


def lines(
    q: Float[Tensor, "h n d"], k: Float[Tensor, "g n d"], scale: float, slashes: Slashes
) -> tuple[Bool[Tensor, "h n"], Bool[Tensor, "h n"]]:
    """Keys and distances with the most attention from the last rows; the first keys and short distances among them."""
    n = q.shape[1]
    own = torch.arange(max(0, n - OBSERVED), n, device=q.device)
    back = own[:, None] - torch.arange(n, device=q.device)
    scores = grouped(q[None, :, own], k[None])[0] * scale
    pattern = scores.masked_fill(back < 0, float("-inf")).softmax(-1)
    by_distance = pattern.gather(-1, back.clamp_min(0).expand_as(pattern)).masked_fill(back < 0, 0.0)
    columns = _best(pattern.sum(1), slashes.vertical, slashes.first)
    return columns, _best(by_distance.sum(1), slashes.slash, slashes.last)


def _best(mass: Float[Tensor, "h n"], most: int, always: int) -> Bool[Tensor, "h n"]:
    mass[:, :always] = float("inf")
    top = mass.topk(min(most, mass.shape[1]), -1).indices
    return torch.zeros_like(mass, dtype=torch.bool).scatter_(-1, top, True)
