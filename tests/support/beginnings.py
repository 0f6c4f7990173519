"""Tiny models whose tokenizers begin texts in all ways that families do, saved as local folders."""

from __future__ import annotations

from pathlib import Path

import tiny_architectures
import tiny_models
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

TEMPLATE, FLAG, NONE, END, TWO, CLOSED = "template", "flag", "none", "end", "two", "closed"
FAMILIES = {
    "llama": TEMPLATE, "gemma2": FLAG, "qwen2": NONE, "stablelm": NONE, "gpt_neox": END, "gpt2": END, "glm": TWO,
    "mistral": CLOSED,
}  # fmt: skip
"""BOS by template; by add_bos_token; none known (TransformerLens lends EOS); BOS = EOS, not put; two tokens; EOS behind."""
FIRST = {TEMPLATE: [1], FLAG: [1], NONE: [], END: [], TWO: [3, 4], CLOSED: [1]}
WORDS = ["<pad>", "<bos>", "<eos>", "[gMASK]", "<sop>", *(f"w{i}" for i in range(92))]


def save(kind: str, folder: Path) -> Path:
    """A random model of a family with a tokenizer of one token a word that begins texts as the family's does."""
    known = kind in tiny_models.ARCHITECTURES
    tiny_models.save(kind, folder, of=None if known else tiny_architectures.config(kind))
    (qwen() if kind == "qwen2" else tokenizer(FAMILIES[kind])).save_pretrained(folder)
    return folder


def qwen() -> Qwen2Tokenizer:
    """Hugging Face builds Qwen's anew as byte-level BPE: one token a character, no BOS token."""
    letters = [chr(i) for i in range(33, 127) if chr(i) not in "`^~|"]
    vocabulary = {w: i for i, w in enumerate([*WORDS[:5], "Ġ", *letters])}
    return Qwen2Tokenizer(vocab=vocabulary, merges=[], eos_token="<eos>", pad_token="<pad>", unk_token="<pad>")


def tokenizer(way: str) -> PreTrainedTokenizerFast:
    """Words, begun in one of the ways."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single = {TEMPLATE: "<bos> $A", TWO: "[gMASK] <sop> $A", CLOSED: "<bos> $A <eos>"}.get(way)
    if single:
        special = [(w, WORDS.index(w)) for w in WORDS[1:5] if w in single]
        inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    bos = {NONE: {}, TWO: {}, END: {"bos_token": "<eos>"}}.get(way, {"bos_token": "<bos>"})
    flag = {"add_bos_token": True} if way == FLAG else {}
    more = {"extra_special_tokens": ["[gMASK]", "<sop>"]} if way == TWO else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>", unk_token="<pad>", **bos, **flag, **more
    )
