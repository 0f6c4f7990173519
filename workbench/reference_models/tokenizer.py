"""The word-level tokenizer of the reference models, as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.reference_models.recipes import grammar


def build() -> Any:
    """One id a word of the grammar: text is lower-cased, punctuation and digits stand alone, letters glued to digits
    come apart, anything else is `<unk>`; `<bos>` first."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(dict(grammar.INDEX), unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\d|[^\w\s]"), "isolated"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", grammar.BOS)]
    )
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), grammar.SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=4096, **special)


def save(folder: Path) -> None:
    """Write tokenizer.json and its config."""
    build().save_pretrained(folder)
