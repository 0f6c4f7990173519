"""Echo, induction and previous-token scores on repeated random tokens (RazorAttention, arXiv 2407.15891).

BOS, where the model begins texts so, and the same K random tokens four times. Echo: attention to earlier copies of the
current token. Induction: attention to the token after such a copy. Averaged over the rows after the first segment; no
answer is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from workbench_kernels import Reductions

from workbench import images
from workbench.beginnings import first_ids
from workbench.budget import in_parts

COPIES = 4
MOST = 2500


@dataclass(frozen=True)
class RepeatScores:
    """Mean attention, [layers, heads]; k: length of the repeated segment; accuracy of predicting the repeats."""

    echo: Float[np.ndarray, "layers heads"]
    induction: Float[np.ndarray, "layers heads"]
    previous: Float[np.ndarray, "layers heads"]
    k: int
    accuracy: float


@torch.no_grad()
def repeat_scores(
    model: Any, max_len: int, seed: int = 0, words: Sequence[int] | None = None
) -> RepeatScores:  # fmt: skip
    """The three scores from one forward of at most max_len tokens.

    words: ids to take instead of the whole vocabulary, each once in a segment: heads that care for names only are
    asked with names.
    """
    head = list(first_ids(model.tokenizer))
    k, random = min(MOST, (max_len - len(head)) // COPIES), torch.Generator().manual_seed(seed)
    if words is not None:
        pool = torch.tensor(sorted(set(words)))
        segment = pool[torch.randperm(len(pool), generator=random)[:k]]
        k = len(segment)
    else:
        pool = torch.tensor(images.text_tokens(model))
        segment = pool[torch.randint(len(pool), (k,), generator=random)]
    tokens = torch.tensor([head + segment.tolist() * COPIES], device=model.device)
    back = [k * i for i in range(1, COPIES)]
    want = Reductions(offsets=(1, *back, *(b - 1 for b in back)))
    start, last, normed = len(head) + k, tokens.shape[1] - 1, []
    with model.bridge.hooks(fwd_hooks=[("ln_final.hook_out", lambda x, hook: normed.append(x[0, start:-1]))]):
        out = model.forward(tokens, reductions=lambda layer, mask: want, keep=slice(last, last + 1))
    shape = (model.n_layers, model.n_heads)
    echo, induction, previous = (np.full(shape, np.nan) for _ in range(3))
    for layer, stats in out.statistics.items():
        assert stats.at_offset is not None
        rows = stats.at_offset[0, :, start:].double().mean(1).cpu().numpy()  # [heads, offsets]
        previous[layer], n = rows[:, 0], len(back)
        echo[layer], induction[layer] = rows[:, 1 : 1 + n].sum(-1), rows[:, 1 + n :].sum(-1)
    right = _said(model, normed[-1]) == tokens[0, start + 1 :]
    return RepeatScores(echo, induction, previous, k, float(right.float().mean()))


def _said(model: Any, normed: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """The tokens that the model says after some columns. The logits of all at once would be the largest tensor there is."""
    unembed, each = model.bridge.unembed.original_component, int(model.bridge.cfg.d_vocab) * model.dtype.itemsize
    return torch.cat(in_parts(model, "repeats", len(normed), each, lambda part: unembed(normed[part]).argmax(-1)))
