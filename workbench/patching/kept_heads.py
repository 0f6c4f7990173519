"""A model with only some heads at work: circuits run by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.budget import budget_of, in_parts
from workbench.errors import BadInput, Unsupported
from workbench.footprint import forward_bytes, outputs_bytes, stream_bytes
from workbench.models import load
from workbench.patching.pair import Pair
from workbench.patching.replacements import How, MeanOutputs, mean_outputs, names_of, replacements
from workbench.patching.runs import activations, difference, repeat
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows


@torch.no_grad()
def kept_differences(
    model: Any,
    prompts: Sequence[CircuitPrompt],
    keep: Bool[Tensor, "sets layers heads"],
    how: How = "resample",
    reference: MeanOutputs | None = None,
    memory: int | str | None = None,
) -> Float[Tensor, "sets prompts"]:
    """Logit differences at the prompts' last tokens when only the heads of a set are kept, for many sets.

    The model runs the clean prompts. Every head outside the set has its output (hook_z) replaced at all positions: by
    that of the prompt's own corrupted side ("resample"), by the mean of its template and column over `reference`
    ("mean"; see `mean_outputs`; None: over the corrupted sides of these prompts), or by 0 ("zero"). Everything behind it
    answers; embeddings are clean and MLPs are kept live. The difference is logit(answers[0]) − logit(answers[1]).

    Sets and prompts are rows of one batch, resumed from the lowest layer that lacks a head; `memory` bounds how
    many (bytes, see `workbench.budget`), and does not change the result beyond rounding. Raises BadInput for sets of
    another shape and for prompts whose template the reference lacks, TooLarge, and Unsupported like
    `activation_effects`.
    """
    model = load(model)
    if (
        keep.dim() != 3
        or keep.shape[1:] != (model.n_layers, model.n_heads)
        or not len(keep)
        or keep.dtype != torch.bool
    ):
        shape = f"{keep.dtype} {list(keep.shape)}"
        raise BadInput(f"keep is {shape}: give bool [sets, {model.n_layers} layers, {model.n_heads} heads]")
    if lacking := sorted(set(range(model.n_layers)) - set(model.seam.layers)):
        raise Unsupported(f"layers {lacking} have no heads to keep: circuits are run in models with attention in all")
    if how == "mean" and reference is None:
        reference = mean_outputs(model, prompts, memory)
    longest = max((len(p.clean) for p in prompts), default=1)
    run, own = forward_bytes(model, longest), 2 * outputs_bytes(model, longest) + stream_bytes(model, longest)
    each = model.n_layers * own

    def some(rows: slice) -> Float[Tensor, "sets prompts"]:
        asked = prompts[rows]
        left = budget_of(model, memory) - each * len(asked)
        return _of_part(model, asked, keep, how, reference, run * len(asked), left)

    return torch.cat(in_parts(model, "circuits", len(prompts), each + run, some, memory), 1)


def head_sets(model: Any, lists: Sequence[Sequence[tuple[int, int]]]) -> Bool[Tensor, "sets layers heads"]:
    """Lists of (layer, head) as sets. Raises BadInput for a head that the model lacks."""
    out = torch.zeros(len(lists), model.n_layers, model.n_heads, dtype=torch.bool)
    for one, heads in zip(out, lists, strict=True):
        for layer, head in heads:
            if not (0 <= layer < model.n_layers and 0 <= head < model.n_heads):
                size = f"{model.n_layers} layers of {model.n_heads} heads"
                raise BadInput(f"head {layer}.{head}: {model.name} has {size}, counted from 0")
            one[layer, head] = True
    return out


def _of_part(
    model: Any, prompts: Sequence[CircuitPrompt], keep: Bool[Tensor, "sets layers heads"], how: How,
    means: MeanOutputs | None, each: int, memory: int,
) -> Float[Tensor, "sets b"]:  # fmt: skip
    """The sets on some prompts. each, memory: bytes of one set at work on them, and of all that are."""
    rows = circuit_rows(prompts)
    pair = Pair.of(model, rows.clean, rows.corrupted, rows.answers, rows.mask)
    keep = keep.to(pair.clean.device)
    others, lowest = replacements(pair, prompts, how, means), _lowest(keep)
    layers = lowest.unique().tolist()
    streams = activations(model, pair.clean, pair.attention_mask, [_entry(layer) for layer in layers])
    out: dict[int, Tensor] = {}
    for layer in layers:
        resid, chosen = streams[_entry(layer)], (lowest == layer).nonzero().flatten()

        def some(part: slice, resid: Tensor = resid, layer: int = layer, chosen: Tensor = chosen) -> Tensor:
            return _run(pair, resid, layer, keep[chosen[part]], others)

        found = torch.cat(in_parts(model, "sets of heads", len(chosen), each, some, max(each, memory)))
        out |= dict(zip(chosen.tolist(), found, strict=True))
    return torch.stack([out[i] for i in range(len(keep))])


def _entry(layer: int) -> str:
    return f"blocks.{layer}.hook_in"


def _lowest(keep: Bool[Tensor, "sets layers heads"]) -> Tensor:
    """The first layer of each set that lacks a head; the last layer where none does."""
    lacks = ~keep.all(-1)
    lacks[:, -1] = True
    return lacks.int().argmax(-1)


def _run(
    pair: Pair, resid: Float[Tensor, "b n d"], layer: int, keep: Bool[Tensor, "sets layers heads"],
    others: Sequence[Tensor],
) -> Float[Tensor, "sets b"]:  # fmt: skip
    """Sets that lack no head below a layer, resumed from the stream that enters it."""
    runs, names = len(keep), names_of(pair.model)
    hooks = {
        names[i]: _replace(others[i], keep[:, i])
        for i in range(layer, pair.model.n_layers)
        if not bool(keep[:, i].all())
    }
    found = difference(
        pair.model, repeat(resid, runs), layer, repeat(pair.attention_mask, runs), pair.ends.repeat(runs),
        repeat(pair.answers, runs), hooks,
    )  # fmt: skip
    return found.unflatten(0, (runs, -1))


def _replace(other: Tensor, keep: Bool[Tensor, "sets heads"]) -> Any:
    """Heads that a set lacks give what stands for them, in the set's copy of the batch."""

    def hook(z: Tensor, hook: Any) -> Tensor:
        own = z.unflatten(0, (len(keep), -1))
        return torch.where(keep[:, None, None, :, None], own, other).flatten(0, 1)

    return hook
