"""Head outputs of a reference set: what mean and resample ablation put in the place of a head's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import BadInput


@dataclass(frozen=True, eq=False)
class Reference:
    """z of every head: its mean (p = 1), or p resampled positions used in turn along the text."""

    values: Float[Tensor, "layers heads p d"]
    how: str
    n: int  # positions of the reference set
    name: str = "reference"

    def describe(self) -> dict[str, Any]:
        """What it was made of."""
        return {"how": self.how, "positions": self.n, "prompts": self.name}

    def at(self, layer: int, positions: Int[Tensor, " q"]) -> Float[Tensor, "heads p d"]:
        """The replacement at some positions, counted from the first token of the text."""
        values = self.values[layer]
        return values if values.shape[1] == 1 else values[:, positions.to(values.device) % values.shape[1]]


@torch.no_grad()
def reference(
    model: Any, tokens: Tensor, how: str = "mean", seed: int = 0, name: str = "reference", inputs: Any = None
) -> Reference:
    """Collect z (hook_z) of all heads on [b, n] reference tokens without padding. inputs: see `Model.forward`."""
    if how not in ("mean", "resample"):
        raise BadInput(f"how={how} is no reference: use mean or resample")
    found: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(z: Tensor, hook: Any) -> None:
            found[layer] = z.detach().flatten(0, 1).transpose(0, 1)

        return hook

    with model.bridge.hooks(fwd_hooks=[(f"blocks.{i}.attn.hook_z", keep(i)) for i in model.seam.layers]):
        model.forward(tokens, inputs=inputs, keep=slice(tokens.shape[1] - 1, tokens.shape[1]))
    first = next(iter(found.values()))
    z = torch.stack([found.get(i, torch.full_like(first, float("nan"))) for i in range(model.n_layers)])
    if how == "mean":
        return Reference(z.mean(2, keepdim=True), how, z.shape[2], name)
    rng = torch.Generator().manual_seed(seed)
    picks = torch.randint(z.shape[2], (min(1024, z.shape[2]),), generator=rng)
    return Reference(z[:, :, picks], how, z.shape[2], name)
