"""Texts that a tokenizer makes nothing of end with a line, wherever texts are filled up with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import word_tokenizers
from workbench_analyses.atlas_parts.prose import generated
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.sinks.texts import probe_texts

from workbench.errors import BadInput
from workbench.tasks.assembling import EMPTY, Assembler
from workbench.tasks.needle import blocks, sentences_of
from workbench.tasks.ruler_needles import generate_rows


def assembler_of(*gone: str) -> Assembler:
    """Words as tokens; its tokenizer drops what matches one of the patterns."""
    from tokenizers import Regex, normalizers

    tokenizer = word_tokenizers.words("abc")
    tokenizer.unk_token = None
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(x), "") for x in gone])
    return Assembler(tokenizer, "none")


SILENT = ".*"
FILLED: dict[str, Any] = {
    "needles": lambda a: next(blocks(a, [128], [50.0], 1, 0)),
    "rows of RULER": lambda a: generate_rows(a, "multikey", 256, 1, 0),
    "texts of sinks": lambda a: probe_texts(
        ScanSinks(tokens=128, samples=2, out=None), SimpleNamespace(context=128, tokenizer=a.tokenizer), a  # pyright: ignore
    ),
    "texts of an atlas": lambda a: generated(a, None, 2, 64, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FILLED)
def test_a_tokenizer_that_gives_no_token_ends_it(name):
    with pytest.raises(BadInput, match=r"^the model's tokenizer gives no token for '.+', nor for 999 texts before it$"):
        FILLED[name](assembler_of(SILENT))


def test_a_users_haystack_without_a_token_ends_it_too(tmp_path):
    (tmp_path / "h.txt").write_text("Nothing. Here.")
    with pytest.raises(BadInput, match="gives no token for '"):
        for _ in sentences_of(tmp_path / "h.txt", np.random.default_rng(0), assembler_of(SILENT)):
            pass


def test_negative_control_texts_in_a_row_are_counted_and_only_those():
    """One token a thousand texts is enough to go on; what comes out is what the texts hold."""
    texts = (["x"] * (EMPTY - 1) + ["b x c"]) * 3
    found = list(assembler_of("x").pieces(texts))
    assert [text for text, _ in found] == texts and sum(len(ids) for _, ids in found) == 6
    with pytest.raises(BadInput, match="no token for 'x'"):
        list(assembler_of("x").pieces([*texts, *["x"] * EMPTY]))


def test_a_haystack_fills_its_room_to_the_last_sentence_that_fits():
    assembler = assembler_of("@")
    block = next(blocks(assembler, [300], [0.0, 50.0], 1, 7))
    longest = max(len(sample.tokens) for sample in block.samples)
    assert 300 - 40 < longest <= 300 and len(block.haystack) < longest
