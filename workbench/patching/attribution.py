"""Attribution patching: activation patching to first order, for all parts at once from a few gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.budget import in_parts
from workbench.errors import BadInput
from workbench.footprint import forward_bytes
from workbench.patching.activation import POINTS
from workbench.patching.columns import At
from workbench.patching.pair import Pair
from workbench.patching.runs import activations, difference


def attribution_effects(
    model: Any,
    clean: Int[Tensor, "b n"],
    corrupted: Int[Tensor, "b n"],
    answers: Int[Tensor, "b 2"],
    of: Literal["heads", "mlps", "resid_pre"] = "heads",
    steps: int = 0,
    at: At | None = None,
    attention_mask: Bool[Tensor, "b n"] | None = None,
    memory: int | str | None = None,
) -> Float[Tensor, "b layers heads"]:
    """First-order estimate of `activation_effects` (noising): (corrupted − clean activation) · gradient of the difference.

    steps=0 takes the gradient in the clean run (attribution patching; node EAP, Syed et al. 2023, arXiv:2310.10348).
    steps=m averages it over m inputs from the corrupted embeddings towards the clean ones, the corrupted included and
    the clean not (EAP-IG on inputs, Hanna et al. 2024, arXiv:2403.17806). Estimates are wrong where attention saturates:
    `path_effects` and `activation_effects` say what is true. Shapes, `of`, `at` and `memory` as in `activation_effects`.

    TransformerLens' `attribution_patch` agrees on one unpadded pair at steps=0 (it takes the gradient in the corrupted
    run: swap the prompts and the sign); it has no integrated gradients.
    """
    point = POINTS.get(of)
    if point is None or steps < 0:
        raise BadInput(f"of={of}, steps={steps}: give {', '.join(POINTS)}, and 0 or more steps")
    pair = Pair.of(model, clean, corrupted, answers, attention_mask)
    where, each = pair.where(at), gradient_bytes(pair)

    def some(rows: slice) -> Float[Tensor, "b layers *heads"]:
        return _estimates(pair.part(rows), where[rows], point, steps)

    return torch.cat(in_parts(pair.model, "attribution patching", len(pair.clean), each, some, memory))


def gradient_bytes(pair: Pair) -> int:
    """Bytes of one prompt's run that autograd records: every layer's tensors stay, those of two runs beside them."""
    return (pair.model.n_layers + 2) * forward_bytes(pair.model, pair.clean.shape[1])


def _estimates(pair: Pair, where: Bool[Tensor, "b n"], point: str, steps: int) -> Float[Tensor, "b layers *heads"]:
    """The estimates for some prompts."""
    names = [f"blocks.{layer}.{point}" for layer in range(pair.model.n_layers)]
    with torch.no_grad():
        runs = [activations(pair.model, x, pair.attention_mask, [*names, ENTRY]) for x in (pair.clean, pair.corrupted)]
    out: Any = 0.0
    for _, slopes, weight in each_step(pair, runs[0][ENTRY], runs[1][ENTRY], names, [], steps):
        products = torch.stack([(runs[1][name] - runs[0][name]) * slopes[name] for name in names], 1)
        mask = where.view(len(where), 1, -1, *[1] * (products.dim() - 3))
        out = out + weight * (products * mask).sum(-1).sum(2)
    return out


ENTRY = "blocks.0.hook_in"


def each_step(
    pair: Pair, clean: Float[Tensor, "b n d"], corrupted: Float[Tensor, "b n d"], names: list[str], shown: list[str],
    steps: int,
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor], float]]:  # fmt: skip
    """At the inputs (embeddings) that `steps` means: what hook points show, gradients at `names`, and their weight."""
    for share in [(k + 1) / steps for k in range(steps)] or [0.0]:
        seen: dict[str, Tensor] = {}
        with torch.enable_grad():
            resid = (clean + share * (corrupted - clean)).detach().requires_grad_()
            hooks = {name: _watch(seen, name) for name in names} | {name: _show(seen, name) for name in shown}
            value = difference(pair.model, resid, 0, pair.attention_mask, pair.ends, pair.answers, hooks).sum()
            found = torch.autograd.grad(value, [seen[name] for name in names])
        yield seen, dict(zip(names, found, strict=True)), 1 / max(steps, 1)


def _watch(seen: dict[str, Tensor], name: str) -> Any:
    """Keep the very tensor that the model goes on with."""

    def hook(x: Tensor, hook: Any) -> Tensor:
        seen[name] = x.view_as(x)
        return seen[name]

    return hook


def _show(seen: dict[str, Tensor], name: str) -> Any:
    def hook(x: Tensor, hook: Any) -> None:
        seen[name] = x

    return hook
