"""Peer: a TransformerBridge as it comes, all eager, the N×N pattern of every layer for every sample.

`cached` is what its documentation shows: run_with_cache on the patterns. `streamed` reduces each pattern in a hook and
lets it go, the most that a user can do about it. Both get the expected answer appended, so one forward gives every
step: the quickest way an eager bridge has, and valid only where the model says that answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .copies import Copies, Found

PATTERN = "hook_pattern"


@torch.inference_mode()
def cached(bridge: Any, sample: Any, stops: set[int]) -> Found:
    """Scores of one sample from patterns kept by run_with_cache."""
    tokens = torch.tensor([[*sample.tokens, *sample.answer]])
    logits, cache = bridge.run_with_cache(tokens, names_filter=lambda name: name.endswith(PATTERN))
    rows = slice(len(sample.tokens) - 1, tokens.shape[1] - 1)
    patterns = (cache[f"blocks.{i}.attn.{PATTERN}"] for i in range(bridge.cfg.n_layers))
    keys = torch.stack([p[0, :, rows].argmax(-1) for p in patterns])
    return _score(sample, stops, logits, keys)


@torch.inference_mode()
def streamed(bridge: Any, sample: Any, stops: set[int]) -> Found:
    """Scores of one sample from hooks that reduce each pattern at once."""
    tokens = torch.tensor([[*sample.tokens, *sample.answer]])
    rows = slice(len(sample.tokens) - 1, tokens.shape[1] - 1)
    keys: list[Tensor] = []

    def reduce(pattern: Tensor, hook: Any) -> None:
        keys.append(pattern[0, :, rows].argmax(-1))

    hooks = [(f"blocks.{i}.attn.{PATTERN}", reduce) for i in range(bridge.cfg.n_layers)]
    logits = bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    return _score(sample, stops, logits, torch.stack(keys))


VARIANTS: dict[str, Callable[[Any, Any, set[int]], Found]] = {"cached": cached, "streamed": streamed}


def _score(sample: Any, stops: set[int], logits: Tensor, keys: Tensor) -> Found:
    """keys: [layers, heads, steps]."""
    said, n = logits[0, len(sample.tokens) - 1 :].argmax(-1).tolist(), len(sample.answer)
    assert tuple(said[:n]) == sample.answer and said[n] in stops, "one forward stands for decoding only if it says so"
    copies = Copies(torch.tensor(sample.tokens), sample.spans["answer"], *keys.shape[:2])
    for i, token in enumerate(sample.answer):
        copies.add(keys[..., i], token)
    return copies.found(list(sample.answer))
