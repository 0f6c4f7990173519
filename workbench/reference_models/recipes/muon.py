"""Muon: momentum whose update is orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024).

Small matrices train in a third of the steps AdamW needs here. Matrices of one shape are iterated as one batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


def orthogonalise(gradient: Float[Tensor, "n out in"], iterations: int = 5) -> Float[Tensor, "n out in"]:
    """The nearest orthogonal matrices, about: quintic Newton-Schulz with the published coefficients."""
    x = gradient / (gradient.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(iterations):
        a = x @ x.mT
        x = 3.4445 * x + (-4.775 * a + 2.0315 * (a @ a)) @ x
    return x.mT if tall else x


class Muon:
    """Updates 2-D parameters in place from their gradients and clears these."""

    def __init__(self, parameters: Iterable[nn.Parameter], momentum: float = 0.95, weight_decay: float = 0.05) -> None:
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in parameters:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.state = {s: torch.zeros(len(ps), *s) for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update with learning rate lr."""
        for shape, parameters in self.groups.items():
            gradient = torch.stack([p.grad for p in parameters if p.grad is not None])
            mean = self.state[shape].lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(mean, self.momentum)) * max(1, shape[0] / shape[1]) ** 0.5
            for p, u in zip(parameters, update, strict=True):
                p.mul_(1 - lr * self.weight_decay).add_(u, alpha=-lr)
                p.grad = None
