"""Processors of pictures for the tiny vision-language models, made by hand with pillow alone and saved beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny_architectures
import tiny_models
import transformers
from tiny_models import IMAGE
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedTokenizerFast

from workbench.vision import without_videos

LAST = {
    "gemma3": ("<image_soft_token>", "<start_of_image>", "<end_of_image>"),
    "idefics3": ("<image>", "<fake_token_around_image>", "<global-img>"),
    "llava_next": ("<image>",),
    "llava_onevision": ("<image>", "<video>"),
    "qwen2_5_vl": ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>"),
    "qwen3_vl": ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>"),
}
"""Ids from IMAGE on."""
TILES = [f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2, 3, 4)]
ASKED = {
    "gemma3": "<start_of_image> w3 w4", "qwen2_5_vl": "<|vision_start|> <|image_pad|> w3 w4",
    "qwen3_vl": "<|vision_start|> <|image_pad|> w3 w4",
}  # fmt: skip
"""A prompt with one picture; others write <image>."""


def save(kind: str, folder: Path, tiles: bool = False) -> Path:
    """A random model with its processor. tiles: Idefics3 cuts its pictures."""
    tiny_models.save(kind, folder, of=tiny_architectures.seeing(kind))
    made = processor(kind, tokenizer(kind, AutoConfig.from_pretrained(folder)), tiles)
    made.save_pretrained(folder)
    return folder


def tokenizer(kind: str, config: Any) -> PreTrainedTokenizerFast:
    """One token a word, BOS first but in Qwen's; the last ids are the kind's own."""
    words = ["<pad>", "<bos>", "<eos>", *(f"w{i}" for i in range(94))]
    if kind == "idefics3":
        words[IMAGE - len(TILES) :] = TILES
    words += LAST[kind]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special: Any = [*LAST[kind], *(TILES if kind == "idefics3" else [])]
    if kind == "gemma3":
        special = dict(zip(("image_token", "boi_token", "eoi_token"), LAST[kind], strict=True))
    bos = {} if kind.startswith("qwen") else {"bos_token": "<bos>"}
    if bos:
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>", unk_token="<pad>", **bos,
        extra_special_tokens=special,
    )  # fmt: skip


def processor(kind: str, words: PreTrainedTokenizerFast, tiles: bool) -> Any:
    """For pictures that become 8 × 8 pixels (LLaVA-NeXT and OneVision: 8 × 16 and the whole in 8 × 8)."""
    square = {"height": 8, "width": 8}
    if kind == "gemma3":
        return transformers.Gemma3Processor(_pil("Gemma3")(size=square), words, image_seq_length=4)
    if kind == "idefics3":
        longest = {"longest_edge": 32 if tiles else 8}
        cut = _pil("Idefics3")(size=longest, max_image_size={"longest_edge": 8}, do_image_splitting=tiles)
        return transformers.Idefics3Processor(cut, words, image_seq_len=4)
    pinpoints = [[8, 16], [16, 8]]
    if kind == "llava_next":
        cut = _pil("LlavaNext")(size={"shortest_edge": 8}, crop_size=square, image_grid_pinpoints=pinpoints)
        return transformers.LlavaNextProcessor(
            cut, words, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
        )
    if kind == "llava_onevision":
        cut = _pil("LlavaOnevision")(size=square, image_grid_pinpoints=pinpoints)
        made = without_videos(transformers.LlavaOnevisionConfig)
        return made(cut, words, num_image_tokens=4, vision_feature_select_strategy="full")  # type: ignore[misc]
    config = transformers.Qwen2_5_VLConfig if kind == "qwen2_5_vl" else transformers.Qwen3VLConfig
    size = {"shortest_edge": 64, "longest_edge": 128}
    cut = _pil("Qwen2VL")(size=size, patch_size=4, temporal_patch_size=1, merge_size=1)
    return without_videos(config)(cut, words)  # type: ignore[misc]


def _pil(name: str) -> Any:
    return getattr(transformers, f"{name}ImageProcessorPil")
