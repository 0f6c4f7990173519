"""Tiny random Hugging Face models of many architectures, saved as local folders."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

COMMON = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0, "tie_word_embeddings": False, "initializer_range": 0.3,
}  # fmt: skip
WINDOWED = {"sliding_window": 8}
ARCHITECTURES: dict[str, dict] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": WINDOWED,
    "gemma2": {**WINDOWED, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 4},
    "gemma3_text": {**WINDOWED, "query_pre_attn_scalar": 4},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 8, "n_positions": 256, "n_inner": 48},
    "gpt_neox": {"rotary_pct": 0.5},
}


def save(kind: str, folder: Path, seed: int = 0) -> Path:
    """A random model of this architecture with a word tokenizer, as a local folder."""
    torch.manual_seed(seed)
    own = ARCHITECTURES[kind]
    drop = {"gpt2": set(COMMON) - {"vocab_size", "initializer_range"}, "gpt_neox": {"num_key_value_heads", "head_dim"}}
    common = {k: v for k, v in COMMON.items() if k not in drop.get(kind, ())}
    config = AutoConfig.for_model(kind, **{**common, **own})
    model = AutoModelForCausalLM.from_config(config)
    for p in model.parameters():  # norms that are not one, biases that are not zero
        if p.dim() == 1:
            p.data += 0.1 * torch.randn_like(p)
    model.save_pretrained(folder)
    vocabulary = {w: i for i, w in enumerate(["<pad>", "<bos>", "<eos>", *(f"w{i}" for i in range(94))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<pad>"
    )
    fast.save_pretrained(folder)
    return folder
