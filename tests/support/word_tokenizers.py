"""Tokenizers of the circuit tasks' tests: byte-level BPE as GPT-2 has it, made here, and whole words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
from tokenizers import decoders as back
from transformers import PreTrainedTokenizerFast


def bpe(texts: Iterable[str], size: int = 4000, bos: bool = False) -> Any:
    """Byte-level BPE whose frequent words are one token with the space before them."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = back.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator(list(texts), trainer)
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos:
        front = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
        inner.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), front])
    special = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=special, eos_token=special)


def words(vocabulary: Iterable[str]) -> Any:
    """One token a word or a mark; others are `<unk>`."""
    known = ["<pad>", "<bos>", "<unk>", *dict.fromkeys(vocabulary)]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\p{P}"), "isolated")]
    )
    inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", pad_token="<pad>", unk_token="<unk>")
