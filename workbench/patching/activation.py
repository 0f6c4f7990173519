"""Activation patching: one activation of the other run, everything behind it live."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.budget import budget_of, in_parts
from workbench.errors import BadInput
from workbench.footprint import forward_bytes, outputs_bytes, stream_bytes
from workbench.patching.columns import At
from workbench.patching.pair import Pair
from workbench.patching.runs import activations, difference, repeat

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
    memory: int | str | None = None,
) -> Float[Tensor, "b layers heads"]:
    """Change of the logit difference when one activation is that of the other run (Vig et al. 2020, Meng et al. 2022).

    noising puts corrupted activations into the clean run: is it needed? denoising puts clean ones into the corrupted run:
    does it suffice? The change is from the run that is patched. of: "heads" gives [batch, layers, heads]; "mlps" and
    "resid_pre" (the stream that enters a layer) [batch, layers]. at: the patched column, as in `path_effects`; None for
    all. Patches run as rows of one batch from the patched layer on, as many as `memory` bytes hold (`workbench.budget`).

    Raises BadInput, TooLarge and Unsupported like `path_effects`. TransformerLens' own sweeps take no padding and one
    forward of the whole model per patch; on prompts of one length they agree.
    """
    point = POINTS.get(of)
    if point is None or direction not in ("noising", "denoising"):
        raise BadInput(f"direction={direction}, of={of}: give noising or denoising, and {', '.join(POINTS)}")
    pair = Pair.of(model, clean, corrupted, answers, attention_mask)
    where, n, kept = pair.where(at), pair.clean.shape[1], int(pair.ends.max() - pair.ends.min()) + 1
    run = forward_bytes(pair.model, n, kept)
    each = pair.model.n_layers * (stream_bytes(pair.model, n) + outputs_bytes(pair.model, n))

    def some(rows: slice) -> Float[Tensor, "b layers *heads"]:
        part = pair.part(rows)
        left = budget_of(pair.model, memory) - each * len(part.clean)
        return _effects(part, direction, of, where[rows], run * len(part.clean), left)

    return torch.cat(in_parts(pair.model, "activation patching", len(pair.clean), each + run, some, memory))


def _effects(
    pair: Pair, direction: str, of: str, where: Bool[Tensor, "b n"], each: int, memory: int
) -> Float[Tensor, "b layers *heads"]:  # fmt: skip
    """The effects on some prompts. each, memory: bytes of one patched run of them, and of all that are at work."""
    model, mask = pair.model, pair.attention_mask
    tokens, others = (pair.clean, pair.corrupted) if direction == "noising" else (pair.corrupted, pair.clean)
    names = [f"blocks.{layer}.{POINTS[of]}" for layer in range(model.n_layers)]
    streams = [f"blocks.{layer}.hook_in" for layer in range(model.n_layers)]
    base, other = activations(model, tokens, mask, streams), activations(model, others, mask, names)
    unpatched = difference(model, base[streams[0]], 0, mask, pair.ends, pair.answers, {})
    out, heads = [], model.n_heads if of == "heads" else 1
    for layer, name in enumerate(names):
        resid = base[streams[layer]]

        def some(part: slice, resid: Tensor = resid, layer: int = layer, name: str = name) -> Float[Tensor, "runs b"]:
            chosen = torch.arange(part.start, part.stop)
            runs = len(chosen)
            patched = difference(
                model, repeat(resid, runs), layer, repeat(mask, runs), pair.ends.repeat(runs),
                repeat(pair.answers, runs), {name: _put(other[name], where, chosen if of == "heads" else None)},
            )  # fmt: skip
            return patched.unflatten(0, (runs, -1)) - unpatched

        out.append(torch.cat(in_parts(model, "patched runs", heads, each, some, max(each, memory))))
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
