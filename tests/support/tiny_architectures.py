"""Tiny configs of further architectures that TransformerLens bridges: what the seam serves, and what it refuses."""

from __future__ import annotations

from typing import Any

from tiny_models import COMMON, IMAGE
from transformers import AutoConfig

EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MIXED = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 8, "n_positions": 256, "n_inner": 48}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"], "linear_num_value_heads": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
HALF = {"partial_rotary_factor": 0.5}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1}
TEXT: dict[str, dict[str, Any]] = {
    "afmoe": {**EXPERTS, "num_dense_layers": 1}, "apertus": {}, "arcee": {}, "cohere": {}, "cohere2": MIXED, "ernie4_5": {},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_start_index": 1},
    "exaone4": MIXED, "falcon": {"multi_query": True, "alibi": False, "ffn_hidden_size": 48}, 
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8},
    "gemma": {}, "gemma4_text": {"sliding_window": 8, "vocab_size_per_layer_input": 97, "hidden_size_per_layer_input": 4,
                    "global_head_dim": 4}, "glm": HALF, "glm4": HALF,
    "glm4_moe": {**ROUTED, "first_k_dense_replace": 1}, "gpt_bigcode": {**GPT, "multi_query": True},
    "gptj": {**GPT, "rotary_dim": 4}, "granite": {}, "granitemoe": EXPERTS, "hunyuan_v1_dense": {}, "jais2": {},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False},
    "llama4_text": {**EXPERTS, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 1, "attention_chunk_size": 8,
                    "no_rope_layers": [1, 1, 0]},
    "minimax_m2": EXPERTS, "ministral3": {}, "mixtral": EXPERTS, "modernbert-decoder": {}, "nanochat": {},
    "nemotron": HALF, "olmo": {}, "olmo2": {}, "olmo3": MIXED, "olmoe": EXPERTS,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32}, "phi": HALF, "phi3": {"sliding_window": 8},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16}, "qwen3_5_text": LINEAR, "qwen3_moe": EXPERTS,
    "qwen3_next": {**EXPERTS, **LINEAR, "shared_expert_intermediate_size": 16}, "seed_oss": {},
    "smollm3": {"no_rope_layers": [1, 0, 1], "layer_types": ["full_attention"] * 3}, "stablelm": HALF,
    "starcoder2": {"sliding_window": 8}, "vaultgemma": {**MIXED, "query_pre_attn_scalar": 4},
}  # fmt: skip
GATED = {"afmoe", "qwen3_5_text", "qwen3_next"}
"""A gate stands between a head's output and hook_z: heads are masked and scaled, not replaced."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bitnet": ({}, "_BitNetAttentionBridge, which the seam does not know"),  # a norm over all heads behind them
    "bloom": ({"n_layer": 3, "n_head": 8, "hidden_size": 32}, "BloomAttentionBridge, which the seam does not know"),
    "gpt_neo": ({"num_layers": 3, "num_heads": 8, "attention_types": [[["global", "local", "global"], 1]],
                 "window_size": 8, "intermediate_size": 48}, "adds its mask to scores itself"),
    "mpt": ({"d_model": 32, "n_heads": 8, "n_layers": 3, "expansion_ratio": 2, "max_seq_len": 256},
            "MPTALiBiAttentionBridge, which the seam does not know"),
    "openai-gpt": (GPT, "_OpenAIGPTJointQKVAttentionBridge, which the seam does not know"),
    "xglm": ({"d_model": 32, "attention_heads": 8, "num_layers": 3, "ffn_dim": 48}, "which the seam does not know"),
}  # fmt: skip
BARE = {"vocab_size", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id"}
KEPT = {
    **dict.fromkeys(("gptj", "gpt_bigcode", "mpt", "bloom", "openai-gpt", "xglm"), BARE),
    **dict.fromkeys(("opt", "falcon"), set(COMMON) - {"num_key_value_heads", "head_dim", "intermediate_size"}),
    "gpt_neo": BARE - {"pad_token_id"} | {"hidden_size", "max_position_embeddings"},
}
"""Of the common settings, those that an architecture of other names takes."""
EYES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "patch_size": 4}
VISION = [
    "gemma3", "idefics3", "llava_next", "llava_onevision", "mistral3", "qwen2_5_vl", "qwen3_vl", "smolvlm",
]  # fmt: skip
PARTS = {"llava_next": 14, "llava_onevision": 14}
"""Placeholders of a picture: 4, but of LLaVA-NeXT's of 8 × 16 pixels 4 and, tile by tile, 2 rows of 4 and a newline."""


def config(kind: str) -> Any:
    """The Hugging Face config of an architecture of text."""
    own = TEXT[kind] if kind in TEXT else REFUSED[kind][0]
    return AutoConfig.for_model(kind, **{k: COMMON[k] for k in KEPT.get(kind, COMMON)}, **own)


def seeing(kind: str) -> Any:
    """The Hugging Face config of a vision-language model whose pictures of 8 × 8 pixels take 4 placeholders (PARTS)."""
    text, eyes = {**COMMON, "vocab_size": IMAGE + 3}, {**EYES, "num_hidden_layers": 2, "image_size": 8}
    if kind == "gemma3":
        inner = AutoConfig.for_model("gemma3_text", **text, sliding_window=8, query_pre_attn_scalar=4)
        tower = AutoConfig.for_model("siglip_vision_model", **eyes)
        return AutoConfig.for_model(
            kind, text_config=inner, vision_config=tower, mm_tokens_per_image=4, image_token_index=IMAGE
        )
    if kind in ("idefics3", "smolvlm"):
        inner = AutoConfig.for_model("llama", **text)
        return AutoConfig.for_model(kind, text_config=inner, vision_config=eyes, image_token_id=IMAGE, scale_factor=1)
    if kind in ("llava_next", "llava_onevision"):
        clip = kind == "llava_next"
        inner = AutoConfig.for_model("llama" if clip else "qwen2", **text)
        own = {} if clip else {"vision_use_head": False}
        tower = AutoConfig.for_model("clip_vision_model" if clip else "siglip_vision_model", **eyes, **own)
        return AutoConfig.for_model(
            kind,
            text_config=inner,
            vision_config=tower,
            image_token_index=IMAGE,
            image_grid_pinpoints=[[8, 16], [16, 8]],
        )
    if kind == "mistral3":
        inner = AutoConfig.for_model("mistral", **text, sliding_window=8)
        tower = AutoConfig.for_model("pixtral", **eyes, head_dim=4)
        return AutoConfig.for_model(
            kind, text_config=inner, vision_config=tower, image_token_index=IMAGE, spatial_merge_size=1,
            vision_feature_layer=-1,
        )  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0]}
    tower = {
        "depth": 2, "num_heads": 4, "spatial_merge_size": 1, "temporal_patch_size": 1, "in_channels": 3,
        "out_hidden_size": 32, "window_size": 8, "fullatt_block_indexes": [0],
    }  # fmt: skip
    if kind == "qwen3_vl":
        rope["mrope_interleaved"] = True
        tower |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    else:
        del text["head_dim"]
    return AutoConfig.for_model(
        kind, text_config={**text, "rope_parameters": rope}, vision_config={**EYES, **tower}, image_token_id=IMAGE,
        video_token_id=IMAGE + 1, vision_start_token_id=IMAGE + 2, vision_end_token_id=IMAGE - 1,
    )  # fmt: skip
