"""What stands for a head that is taken out of a circuit: its output in another prompt, on average, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.budget import in_parts
from workbench.errors import BadInput
from workbench.footprint import forward_bytes, outputs_bytes
from workbench.models import load
from workbench.option_values import OUTSIDE, one_of
from workbench.patching.pair import Pair
from workbench.patching.runs import activations
from workbench.tasks.circuit_prompts import CircuitPrompt, circuit_rows

How = Literal["resample", "mean", "zero"]
AT_ONCE = 32
"""Reference prompts in one forward."""


@dataclass(frozen=True, eq=False)
class MeanOutputs:
    """Mean z (hook_z) of every head by template and column. values: of each template, [layers, columns, heads, head_dim].

    n: prompts of each template.
    """

    values: Mapping[str, Float[Tensor, "layers n h e"]]
    n: Mapping[str, int]


@torch.no_grad()
def mean_outputs(
    model: Any, prompts: Sequence[CircuitPrompt], memory: int | str | None = None
) -> MeanOutputs:  # fmt: skip
    """Means over the corrupted sides of reference prompts, template by template (Wang et al. 2022, section 2.1).

    Take prompts whose corrupted side asks for neither answer (`CircuitTask.foil_free`), or the mean holds the answers.
    Raises BadInput for a template with prompts of several lengths: its columns do not mean the same.
    memory: as in `kept_differences`.
    """
    model = load(model)
    values, counts = {}, {}
    for template in dict.fromkeys(p.template for p in prompts):
        chosen = [p for p in prompts if p.template == template]
        lengths = sorted({len(p.corrupted) for p in chosen})
        if len(lengths) > 1:
            raise BadInput(f"{template!r}: prompts of {' and '.join(map(str, lengths))} tokens: no mean by column")

        total = torch.zeros((), dtype=torch.float64, device=model.device)

        def some(rows: slice, chosen: list[CircuitPrompt] = chosen) -> None:
            nonlocal total
            tokens = circuit_rows(chosen[rows]).corrupted.to(model.device)
            found = activations(model, tokens, None, names_of(model))
            total = total + torch.stack([found[name].double().sum(0) for name in names_of(model)])

        each = forward_bytes(model, lengths[0]) + (model.n_layers + 2) * outputs_bytes(model, lengths[0])
        sums = 3 * 8 // model.dtype.itemsize * model.n_layers * outputs_bytes(model, lengths[0])  # old, of a part, new
        in_parts(model, "mean outputs", len(chosen), each, some, memory, sums, AT_ONCE)
        values[template], counts[template] = (total / len(chosen)).to(model.dtype), len(chosen)
    return MeanOutputs(values, counts)


def names_of(model: Any) -> list[str]:
    """Where the heads' outputs are, layer by layer."""
    return [f"blocks.{layer}.attn.hook_z" for layer in range(model.n_layers)]


def replacements(
    pair: Pair, prompts: Sequence[CircuitPrompt], how: How, means: MeanOutputs | None
) -> list[Float[Tensor, "*b_n_h_e"]]:
    """Of each layer, what its heads give instead of their own output: [batch, seq, heads, head_dim], or one zero."""
    model = pair.model
    one_of("how", how, OUTSIDE)
    if how == "zero":
        return [torch.zeros((), dtype=model.dtype, device=model.device)] * model.n_layers
    if how == "resample":
        found = activations(model, pair.corrupted, pair.attention_mask, names_of(model))
        return [found[name] for name in names_of(model)]
    assert means is not None
    return list(torch.stack([_placed(p, means, pair.clean.shape[1]) for p in prompts], 1))


def _placed(prompt: CircuitPrompt, means: MeanOutputs, columns: int) -> Float[Tensor, "layers n h e"]:
    """A template's means in the columns of a left-padded row; 0 on padding, which nobody sees."""
    values = means.values.get(prompt.template)
    if values is None or values.shape[1] != len(prompt.clean):
        what = "no prompt" if values is None else f"prompts of {values.shape[1]} tokens"
        raise BadInput(f"{prompt.text!r}: the reference has {what} of its template: give some of the same length")
    return torch.nn.functional.pad(values, (0, 0, 0, 0, columns - values.shape[1], 0))
