"""Tiny random Hugging Face models of many architectures, saved as local folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedTokenizerFast

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
    "gpt_oss": {
        **WINDOWED, "num_local_experts": 4, "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 150000.0},
    },
    "llava": {},
}  # fmt: skip
DROPPED = {"gpt2": set(COMMON) - {"vocab_size", "initializer_range"}, "gpt_neox": {"num_key_value_heads", "head_dim"}}
IMAGE = 97
"""Id of the image placeholder of llava, whose pictures of 8 × 8 pixels take 4 of them."""
PATCHES = 4


def config(kind: str) -> Any:
    """The Hugging Face config of an architecture."""
    common = {k: v for k, v in COMMON.items() if k not in DROPPED.get(kind, ())}
    if kind != "llava":
        return AutoConfig.for_model(kind, **{**common, **ARCHITECTURES[kind]})
    text = AutoConfig.for_model("llama", **{**common, "vocab_size": IMAGE + 1})
    vision = AutoConfig.for_model(
        "clip_vision_model", hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
        image_size=8, patch_size=4, projection_dim=16,
    )  # fmt: skip
    return AutoConfig.for_model(
        "llava", text_config=text, vision_config=vision, image_token_index=IMAGE, image_seq_length=PATCHES,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip


def family(config: Any) -> Any:
    """The Hugging Face class that builds and loads it."""
    return AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM


def hugging_face(folder: Path | str) -> Any:
    """The saved model as Hugging Face runs it, with eager attention."""
    return family(AutoConfig.from_pretrained(folder)).from_pretrained(folder, attn_implementation="eager").eval()


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """One token a word, BOS first."""
    words = ["<pad>", "<bos>", "<eos>", *(f"w{i}" for i in range(94)), *(["<image>"] if kind == "llava" else [])]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<pad>",
        additional_special_tokens=words[97:],
    )  # fmt: skip


def processor(words: PreTrainedTokenizerFast) -> Any:
    """Pictures and text for llava."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    pictures = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    return LlavaProcessor(
        pictures, words, patch_size=4, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1,
    )  # fmt: skip


def save(kind: str, folder: Path, seed: int = 0, of: Any = None) -> Path:
    """A random model of this architecture (or of this config) with a word tokenizer, as a local folder."""
    torch.manual_seed(seed)
    of = of or config(kind)
    model = family(of).from_config(of)
    for name, p in model.named_parameters():  # norms that are not one, biases and learned sinks that are not zero
        if p.dim() == 1 or not p.any():  # Gemma 3's projection of pictures begins at zero
            p.data += (1.0 if name.endswith("sinks") else 0.1) * torch.randn_like(p)
    model.save_pretrained(folder)
    words = tokenizer(kind)
    (processor(words) if kind == "llava" else words).save_pretrained(folder)
    return folder
