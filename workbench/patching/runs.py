"""Runs of the plain model with and without hooks, for patching that needs whole forwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.patching.columns import take


def activations(
    model: Any, tokens: Int[Tensor, "b n"], attention_mask: Tensor | None, names: Sequence[str]
) -> dict[str, Tensor]:
    """What the named hook points show in one forward, [batch, seq, …] each."""
    found: dict[str, Tensor] = {}
    with model.bridge.hooks(fwd_hooks=[(name, _keep(found, name)) for name in names]):
        model.forward(tokens, attention_mask, keep=slice(tokens.shape[1] - 1, tokens.shape[1]))
    return found


def difference(
    model: Any, resid: Float[Tensor, "b n d"], layer: int, attention_mask: Tensor | None, ends: Int[Tensor, " b"],
    answers: Int[Tensor, "b 2"], hooks: Mapping[str, Any],
) -> Float[Tensor, " b"]:  # fmt: skip
    """Logit difference at the rows' last tokens when the model resumes from the stream that enters a layer."""
    first, stop = int(ends.min()), int(ends.max()) + 1
    with model.bridge.hooks(fwd_hooks=list(hooks.items())):
        logits = model.forward_from(layer, resid, attention_mask, keep=slice(first, stop)).logits
    last = take(logits, (ends - first)[:, None])[:, 0].gather(-1, answers)
    last = last.to(torch.promote_types(last.dtype, torch.float32))
    return last[:, 0] - last[:, 1]


def repeat(x: Tensor | None, times: int) -> Any:
    """A batch, run by run."""
    return None if x is None else x.repeat(times, *[1] * (x.dim() - 1))


def _keep(found: dict[str, Tensor], name: str) -> Any:
    def hook(x: Tensor, hook: Any) -> None:
        found[name] = x

    return hook
