"""Greedy decoding through the seam, with the edits of prefill and decode each in their place."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.errors import BadInput


@torch.no_grad()
def greedy(
    model: Any,
    tokens: Int[Tensor, "b n"],
    max_new_tokens: int,
    ends: AbstractSet[int],
    edits: Any = None,
    attention_mask: Bool[Tensor, "b n"] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Int[Tensor, "b new"]:
    """The likeliest next token, again and again; a row that has ended repeats the least of `ends`.

    Raises BadInput for prompts that are not padded on the left.
    """
    if attention_mask is not None and not bool(attention_mask[:, -1].all()):
        raise BadInput("generate: pad prompts on the left, so that every row ends in its text")
    if max_new_tokens < 1:
        raise BadInput(f"generate: max_new_tokens={max_new_tokens}: give at least 1")
    start, cache, out = [tokens.shape[1] - 1], None, []
    done = torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)
    for _ in range(max_new_tokens):
        length = slice(tokens.shape[1] - 1, tokens.shape[1])
        step = model.forward(
            tokens, attention_mask, inputs=inputs if cache is None else None, edits=edits, decode_from=start,
            cache=cache, use_cache=True, keep=length,
        )  # fmt: skip
        cache = step.cache
        if attention_mask is not None:
            attention_mask = torch.nn.functional.pad(attention_mask, (0, 1), value=1)
        new = step.logits[:, -1].argmax(-1)
        new = torch.where(done, torch.full_like(new, next(iter(sorted(ends)), 0)), new)
        out.append(new)
        done |= torch.tensor([int(t) in ends for t in new], device=new.device)
        tokens = new[:, None]
        if bool(done.all()):
            break
    return torch.stack(out, 1)
