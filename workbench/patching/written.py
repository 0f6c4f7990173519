"""What heads say when their output is read through the unembedding: the tokens that they raise and lower most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.budget import in_parts
from workbench.footprint import forward_bytes, outputs_bytes
from workbench.patching.columns import At, column_of, take
from workbench.patching.direct import HeldNorm, head_writes
from workbench.patching.pair import Pair
from workbench.patching.runs import activations
from workbench.patching.wiring import Wiring, wirings


@dataclass(frozen=True)
class Written:
    """Ids of the tokens that each head raises and lowers most at the row's last column."""

    highest: Int[Tensor, "b layers heads k"]
    lowest: Int[Tensor, "b layers heads k"]


@torch.no_grad()
def written_tokens(
    model: Any,
    tokens: Int[Tensor, "b n"],
    source: At | None = None,
    k: int = 5,
    attention_mask: Bool[Tensor, "b n"] | None = None,
    memory: int | str | None = None,
) -> Written:
    """The k tokens that each head's write at the row's last column raises and lowers most.

    source: a column (one, or one per row): what the heads would write if they attended to that column only, the OV
    circuit on the values of the run (copy score of Wang et al. 2022, section 3.1, without its shortcut through the first
    MLP alone). None: what they do write. The final norm has the scale of the run; later layers and biases are left out.
    memory: as in `path_effects`. Raises BadInput and Unsupported like `path_effects`.
    """
    answers = torch.zeros(len(tokens), 2, dtype=torch.long)
    pair = Pair.of(model, tokens, tokens, answers, attention_mask)
    blocks = wirings(pair.model)
    where = pair.ends if source is None else column_of(source, pair.text)
    n, model = pair.clean.shape[1], pair.model
    logits = 3 * model.n_heads * int(model.bridge.cfg.d_vocab) * model.dtype.itemsize
    each = forward_bytes(model, n) + model.n_layers * outputs_bytes(model, n) + logits

    def some(rows: slice) -> Int[Tensor, "2 b layers heads k"]:
        return _tops(pair.part(rows), blocks, where[rows], source is None, k)

    return Written(*torch.cat(in_parts(model, "written tokens", len(pair.clean), each, some, memory), 1))


def _tops(
    pair: Pair, blocks: list[Wiring], where: Int[Tensor, " b"], writes: bool, k: int
) -> Int[Tensor, "2 b layers heads k"]:  # fmt: skip
    """The highest and the lowest, for some texts. writes: what heads write, else the values of the columns `where`."""
    point, last = "z" if writes else "v", f"blocks.{len(blocks) - 1}.hook_out"
    names = [f"blocks.{i}.attn.hook_{point}" for i in range(len(blocks))]
    found = activations(pair.model, pair.clean, pair.attention_mask, [*names, last])
    norm = HeldNorm(pair.model, take(found[last], pair.ends[:, None])[:, 0])
    unembed = pair.model.bridge.unembed.original_component.weight
    tops: tuple[list[Tensor], list[Tensor]] = ([], [])
    for wiring, name in zip(blocks, names, strict=True):
        z = take(found[name], where[:, None])[:, 0]
        z = z if writes else z.repeat_interleave(pair.model.n_heads // z.shape[1], 1)
        logits = norm(head_writes(wiring, z)) @ unembed.mT
        for out, largest in zip(tops, (True, False), strict=True):
            out.append(logits.topk(k, largest=largest).indices)
    return torch.stack([torch.stack(out).permute(2, 0, 1, 3) for out in tops])
