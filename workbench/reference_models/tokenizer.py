"""The word-level tokenizers of the reference models, as an ordinary Hugging Face tokenizer folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.reference_models.recipes.grammar import VOCABULARY

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, BOS, EOS, UNK = VOCABULARY[:4]

GLUED = r"(?<=[0-9])[a-z]|\G(?!\A)(?<=[a-z])[a-z]|[a-z](?=[a-z]*[0-9])"
"""A letter of a run that holds a digit, as in `7f3a`: after a digit, after such a letter, or before a digit."""


def build_tokenizer() -> Tokenizer:
    """A WordLevel tokenizer over the grammar's vocabulary.

    Text is lowercased; punctuation stands alone; numbers fall into digits, and letters glued to digits into letters
    (`7f3a` is four tokens), while ordinary words stay whole; other words are `<unk>`. One `<bos>` is put in front,
    and texts are never cut.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(Regex(GLUED), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, VOCABULARY.index(BOS))]
    )
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in (PAD, BOS, EOS, UNK)])
    return tokenizer


def build_cased_tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    """One token a word or a mark, capitals matter; one `<bos>` is put in front, other words are `<unk>`.

    vocabulary: begins with the four special tokens.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary.index(BOS))]
    )
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in (PAD, BOS, EOS, UNK)])
    return tokenizer


def write_tokenizer(folder: Path, context: int = 4096, tokenizer: Tokenizer | None = None) -> None:
    """Write tokenizer.json and tokenizer_config.json, which AutoTokenizer loads offline, into a folder.

    tokenizer: the grammar's where none is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (tokenizer or build_tokenizer()).save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "bos_token": BOS, "eos_token": EOS,
        "unk_token": UNK, "model_max_length": context, "padding_side": "left",
        "clean_up_tokenization_spaces": False, "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
