"""A GPT-2 and a Llama of zeros for the planted circuits: shapes, rotary planes, norms."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any

from workbench.reference_models.planted.ioi_words import CONTEXT, vocabulary

BALLAST = 64.0
PLANES = 16
"""Frequencies π(2i+1)/32: sums of their cosines vanish at all whole offsets below 32 but 0."""
RATES = [pi * (2 * i + 1) / (2 * PLANES) for i in range(PLANES)]
INNER = 32
STILL = 1e30
"""Factor by which a rotary plane that must not turn is slowed."""


def blank_gpt2(layers: int, heads: int, width: int) -> Any:
    """With learned positions and LayerNorm."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(vocabulary()), n_positions=CONTEXT, n_embd=width, n_layer=layers,
        n_head=heads, n_inner=INNER, tie_word_embeddings=False, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, architectures=["GPT2LMHeadModel"],
    )  # fmt: skip
    return _zeroed(lambda: GPT2LMHeadModel(config), width)


def blank_llama(layers: int, heads: int, kv_heads: int, head_dim: int, width: int) -> Any:
    """With RMSNorm; of its rotary planes 16 turn at RATES, one by half a turn over the context, the others not."""
    from transformers import LlamaConfig, LlamaForCausalLM

    slow = [STILL] * (head_dim // 2 - PLANES - 1)
    turning = [1 / rate for rate in (*RATES, pi / CONTEXT)] + slow
    config = LlamaConfig(
        vocab_size=len(vocabulary()), hidden_size=width, intermediate_size=INNER, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
        max_position_embeddings=CONTEXT, rms_norm_eps=1e-6, tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 1.0, "short_factor": turning, "long_factor": turning,
            "original_max_position_embeddings": CONTEXT, "attention_factor": 1.0, "factor": 1.0,
        },
        pad_token_id=0, bos_token_id=1, eos_token_id=2, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    return _zeroed(lambda: LlamaForCausalLM(config), width)


def _zeroed(make: Callable[[], Any], width: int) -> Any:
    """A model whose weights are zero and whose norms undo the ballast; leaves the random state as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        model = make().float()
    for name, p in model.named_parameters():
        norm = ("norm" in name or "ln_" in name) and name.endswith("weight")
        p.data.fill_(BALLAST * (2 / width) ** 0.5 if norm else 0.0)
    return model.eval()
