"""QRHead: how much more does a question look at the needle than the same prompt without one? (arXiv 2506.09944)

Attention to each token of the document, averaged over the rows from the question to the end of the prompt, minus the
same where nothing is asked (`N/A`). Tokens of the document below mean − 2 standard deviations are dropped, the rest is
summed. The document is the needle's whole statement. No answer is needed, so every sample counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.probes.caches import can_roll_back, copy_cache
from workbench.probes.decoding import Ask
from workbench.tasks.needle import Sample

DROPPED = 2.0
"""Standard deviations below the document's mean at which a token no longer counts."""


def asking_rows(sample: Sample) -> range:
    """Positions of the rows that ask; none where it is not known what would stand there without a question."""
    return range(sample.spans["question"][0], len(sample.tokens)) if sample.null else range(0)


def document_tokens(sample: Sample, device: torch.device) -> Int[Tensor, "1 s 2"]:
    """Each token of the statement as a span of its own."""
    start = torch.arange(*sample.spans["statement"], device=device)
    return torch.stack([start, start + 1], -1)[None]


@torch.no_grad()
def unasked(model: Any, sample: Sample, cache: Any) -> Float[np.ndarray, "l h s"]:
    """Attention to the document's tokens where nothing is asked; the cache, which holds the prompt, stays as it is."""
    asked, past = asking_rows(sample).start, 0
    if cache is not None and can_roll_back(model):
        past, cache = asked, copy_cache(model, cache, asked)
    else:
        cache = None
    tokens = torch.tensor([[*sample.tokens[past:asked], *sample.null]], device=model.device)
    rows = torch.arange(asked - past, tokens.shape[1], device=model.device)[None]
    ask = Ask(rows, document_tokens(sample, model.device), torch.zeros(1, dtype=torch.long, device=model.device))
    keep = slice(asked - past, tokens.shape[1])
    out = model.forward(tokens, reductions=ask, cache=cache, keep=keep, decode_from=[past + tokens.shape[1] - 1])
    return mean_over_rows(ask.looks(out.statistics).mass)


def mean_over_rows(mass: Float[Tensor, "l 1 h rows s"]) -> Float[np.ndarray, "l h s"]:
    """Attention of the mean row."""
    return mass[:, 0].double().mean(2).cpu().numpy()


def focus(asked: Float[np.ndarray, "l h s"], null: Float[np.ndarray, "l h s"]) -> Float[np.ndarray, "l h"]:
    """The score of each head from its attention with and without a question."""
    gained = asked - null
    spread = gained.std(-1, ddof=1, keepdims=True) if gained.shape[-1] > 1 else 0.0
    return np.where(gained < gained.mean(-1, keepdims=True) - DROPPED * spread, 0.0, gained).sum(-1)
