"""Peer: flash prefill, then eager decoding token by token with `output_attentions=True`.

What the reference implementation of Wu et al. 2024 does, on plain Hugging Face code. Kinder than the original: the
prefill keeps the logits of no row but the last, and the copy score is one tensor operation a step, not a loop over heads.
"""

from __future__ import annotations

from typing import Any

import torch

from .copies import MOST_STEPS, Copies, Found


@torch.inference_mode()
def score(model: Any, sample: Any, stops: set[int]) -> Found:
    """Scores of one sample. model: a Hugging Face decoder. sample: tokens, and spans["answer"] inside them."""
    prompt = torch.tensor(sample.tokens)
    config, response = model.config, []
    copies = Copies(prompt, sample.spans["answer"], config.num_hidden_layers, config.num_attention_heads)
    cache = prefill(model, sample)
    config._attn_implementation = "eager"
    step = prompt[None, -1:]
    while len(response) < MOST_STEPS:
        out = model(step, past_key_values=cache, use_cache=True, output_attentions=True)
        token = int(out.logits[0, -1].argmax())
        if token in stops:
            break
        keys = torch.stack([a[0, :, -1].argmax(-1) for a in out.attentions])
        copies.add(keys, token)
        response.append(token)
        step = torch.tensor([[token]])
    return copies.found(response)


@torch.inference_mode()
def prefill(model: Any, sample: Any) -> Any:
    """The cache of the prompt: what no way of scoring can do without, so its share of the whole bounds every ratio."""
    model.config._attn_implementation = "sdpa"
    return model(torch.tensor([sample.tokens[:-1]]), use_cache=True, logits_to_keep=1).past_key_values
