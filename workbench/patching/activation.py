"""Activation patching: one activation of the other run, everything behind it live."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.errors import BadInput
from workbench.patching.columns import At
from workbench.patching.pair import Pair
from workbench.patching.runs import activations, difference, repeat, runs_at_once

MEMORY = 2 << 30
"""Bytes that the streams of the patched runs at work may take."""
POINTS = {"heads": "attn.hook_z", "mlps": "hook_mlp_out", "resid_pre": "hook_resid_pre"}


@torch.no_grad()
def activation_effects(
    model: Any,
    clean: Int[Tensor, "b n"],
    corrupted: Int[Tensor, "b n"],
    answers: Int[Tensor, "b 2"],
    direction: Literal["noising", "denoising"] = "noising",
    of: Literal["heads", "mlps", "resid_pre"] = "heads",
    at: At | None = None,
    attention_mask: Bool[Tensor, "b n"] | None = None,
    memory: int = MEMORY,
) -> Float[Tensor, "b layers heads"]:
    """Change of the logit difference when one activation is that of the other run (Vig et al. 2020, Meng et al. 2022).

    noising puts corrupted activations into the clean run: is it needed? denoising puts clean ones into the corrupted run:
    does it suffice? The change is from the run that is patched. of: "heads" gives [batch, layers, heads]; "mlps" and
    "resid_pre" (the stream that enters a layer) [batch, layers]. at: the patched column, as in `path_effects`; None for
    all. Patches run as rows of one batch from the patched layer on; `memory` bounds their streams.

    Raises BadInput, TooLarge and Unsupported like `path_effects`. TransformerLens' own sweeps take no padding and one
    forward of the whole model per patch; on prompts of one length they agree.
    """
    point = POINTS.get(of)
    if point is None or direction not in ("noising", "denoising"):
        raise BadInput(f"direction={direction}, of={of}: give noising or denoising, and {', '.join(POINTS)}")
    pair = Pair.of(model, clean, corrupted, answers, attention_mask)
    model, mask, where = pair.model, pair.attention_mask, pair.where(at)
    tokens, others = (pair.clean, pair.corrupted) if direction == "noising" else (pair.corrupted, pair.clean)
    names = [f"blocks.{layer}.{point}" for layer in range(model.n_layers)]
    streams = [f"blocks.{layer}.hook_in" for layer in range(model.n_layers)]
    base, other = activations(model, tokens, mask, streams), activations(model, others, mask, names)
    unpatched = difference(model, base[streams[0]], 0, mask, pair.ends, pair.answers, {})
    out, heads = [], model.n_heads if of == "heads" else 1
    for layer, name in enumerate(names):
        resid = base[streams[layer]]
        found = []
        for some in torch.arange(heads).split(runs_at_once(resid, memory)):
            runs = len(some)
            patched = difference(
                model, repeat(resid, runs), layer, repeat(mask, runs), pair.ends.repeat(runs),
                repeat(pair.answers, runs), {name: _put(other[name], where, some if of == "heads" else None)},
            )  # fmt: skip
            found.append(patched.unflatten(0, (runs, -1)) - unpatched)
        out.append(torch.cat(found))
    effects = torch.stack(out).movedim(-1, 0)
    return effects if of == "heads" else effects[..., 0]


def _put(other: Tensor, where: Bool[Tensor, "b n"], heads: Tensor | None) -> Any:
    """The other run's activation in the chosen columns; run i of the batch takes that of the i-th head."""

    def hook(x: Tensor, hook: Any) -> Tensor:
        if heads is None:
            return torch.where(where[..., None], other, x)
        chosen = torch.nn.functional.one_hot(heads, x.shape[2]).bool().to(x.device)  # [runs, heads]
        mask = where[None, :, :, None] & chosen[:, None, None]
        return torch.where(mask.flatten(0, 1)[..., None], repeat(other, len(heads)), x)

    return hook
