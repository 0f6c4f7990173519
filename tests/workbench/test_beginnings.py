"""Texts begin as the model's own tokenizer begins them, everywhere: against Hugging Face's encoding, family by family."""

from __future__ import annotations

from types import SimpleNamespace

import beginnings
import pytest
import tiny_models
import torch
from beginnings import FAMILIES, FIRST, NONE
from transformers import AutoTokenizer
from workbench_analyses.atlas import Atlas
from workbench_analyses.atlas_parts.texts import corpus, fitted, repeated
from workbench_analyses.attention_sinks import ScanSinks
from workbench_analyses.sinks.texts import probe_texts

import workbench as wb
from workbench.beginnings import begun, first_ids, once, without
from workbench.errors import BadInput, ModelError
from workbench.jobs import Job
from workbench.probes.repeats import repeat_scores
from workbench.reference_models import catalogue
from workbench.tasks.needle import Assembler
from workbench.tasks.spelling import Spelling

TEXTS = ["w1 w2 w3", "w9", "w4 w5 w6 w7 w8"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """Its model here, its tokenizer and its model by Hugging Face, and what begins a text."""
    folder = beginnings.save(request.param, tmp_path_factory.mktemp(request.param))
    return SimpleNamespace(
        model=wb.load(folder), words=AutoTokenizer.from_pretrained(folder), theirs=tiny_models.hugging_face(folder),
        first=FIRST[FAMILIES[request.param]], way=FAMILIES[request.param],
    )  # fmt: skip


def encoded(family, texts, **options):
    """As Hugging Face does, without EOS behind: prompts go on."""
    if family.way == beginnings.CLOSED:
        texts, options = [f"<bos> {t}" for t in texts], {**options, "add_special_tokens": False}
    return family.words(texts, return_tensors="pt", **options)


@torch.no_grad()
def test_ids_and_logits_are_hugging_faces(family):
    for text in TEXTS:
        theirs = encoded(family, [text])
        ours = family.model.tokens(text)
        assert ours.tolist() == theirs["input_ids"].tolist() and ours[0, : len(family.first)].tolist() == family.first
        expected = family.theirs(**{k: theirs[k] for k in ("input_ids", "attention_mask")}).logits
        torch.testing.assert_close(family.model(ours), expected, atol=2e-5, rtol=1e-4)
    assert family.model.bos == (family.first[0] if family.first else None)
    whole = family.words("w1")["input_ids"]
    assert (whole[-1] == 2) == (family.way == beginnings.CLOSED), "the control: Hugging Face closes this one's texts"
    lent = family.model.bridge.to_tokens("w1", prepend_bos=True)[0].tolist()
    assert family.first or lent[0] == 2, "the control: TransformerLens puts EOS there where there is no BOS"


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_rows_of_a_padded_batch_are_the_texts_alone(family, side):
    batch = encoded(family, TEXTS, padding=True, padding_side=side)
    mask = batch["attention_mask"].bool()
    logits = family.model(batch["input_ids"], mask)
    for row, text in enumerate(TEXTS):
        alone = family.model.tokens(text)
        assert batch["input_ids"][row][mask[row]].tolist() == alone[0].tolist()
        torch.testing.assert_close(logits[row][mask[row]], family.model(alone)[0], atol=5e-5, rtol=1e-4)


@torch.no_grad()
def test_all_that_makes_texts_begins_them_so(family, monkeypatch):
    model, first = family.model, family.first
    n = len(first)
    assert Assembler(model.tokenizer, "none").head == first and list(Spelling(model.tokenizer).head) == first
    known = f"{model.tokenizer.decode(first)} w1".strip()
    assert model.tokens(known)[0].tolist() == [*first, *model.tokens("w1")[0, n:].tolist()], "once, if it is there"
    config = ScanSinks(tokens=64, samples=2, recent=8)
    for texts in probe_texts(config, model, Assembler(model.tokenizer, "none")):
        assert texts.begun == bool(first) and texts.tokens.shape == (2, 64)
        assert all(row[:n] == first and not set(first) & set(row[n:]) for row in texts.tokens.tolist())
    held = fitted(Atlas(samples=2, sequences=0, tokens=64), model)
    rows = corpus(held, model, Assembler(model.tokenizer, "none")).tokens
    again, start = repeated(held, model)
    assert held.bos is bool(first) and rows[0, :n].tolist() == again[0, :n].tolist() == first
    assert torch.equal(again[:, n:start], again[:, start : 2 * start - n])
    seen = []
    real = model.forward
    monkeypatch.setattr(model, "forward", lambda tokens, *a, **o: seen.append(tokens) or real(tokens, *a, **o))
    found = repeat_scores(model, 41)
    assert seen[0][0, :n].tolist() == first and seen[0].shape[1] == n + 4 * found.k and found.k == (41 - n) // 4


def test_a_live_bridge_is_taken_as_its_own_tokenizer_begins(family):
    live = wb.load(family.model.bridge)
    assert live.tokens("w1 w2").tolist() == family.model.tokens("w1 w2").tolist() and live.bos == family.model.bos
    assert live.bridge.tokenizer is family.model.bridge.tokenizer, "TransformerLens' stays as it is"


def test_an_explicit_choice_is_kept_and_refused_in_one_line(family):
    words = family.model.tokenizer
    assert begun(words, False) == () and begun(words) == tuple(family.first)
    if family.way == NONE:
        with pytest.raises(BadInput, match="bos=true: this model has no BOS token; leave bos= out") as caught:
            begun(words, True)
        assert "\n" not in str(caught.value)
    else:
        assert begun(words, True) == tuple(family.first or [2])


def test_a_run_says_what_its_texts_begin_with_where_older_ones_had_a_lent_token(family):
    job = Job(ScanSinks(out=None), family.model)
    before = (family.model.bridge.tokenizer.bos_token_id,)
    said = {} if tuple(family.first) == before else {"begins": family.first}
    assert job._beginning() == said and bool(said) == (family.first != [1])


def test_a_vocabulary_of_ones_own_is_kept_and_loses_only_a_lent_token(tmp_path):
    """A live bridge whose tokenizer is from nowhere, or has grown."""
    for kind, first in (("qwen2", None), ("gpt_neox", None), ("llama", 1)):
        bridge = wb.load(beginnings.save(kind, tmp_path / kind)).bridge
        bridge.tokenizer.add_tokens(["another"])
        live = wb.load(bridge)
        assert live.bos == first and live.tokenizer.convert_tokens_to_ids("another") == len(live.tokenizer) - 1
        bridge.tokenizer.name_or_path = ""
        assert wb.load(bridge).bos == first


@pytest.mark.parametrize("name", [*catalogue.BUNDLED, *catalogue.PLANTED])
def test_bundled_models_begin_as_ever(name):
    """<bos> once: their results and run folders stay."""
    model = wb.load(name)
    ids = model.bridge.tokenizer("the lamp .", add_special_tokens=False)["input_ids"]
    assert model.tokens("the lamp .").tolist() == [[1, *ids]] and first_ids(model.tokenizer) == (1,)
    assert model.tokenizer.all_special_ids == model.bridge.tokenizer.all_special_ids
    assert Job(ScanSinks(model=name, out=None), model)._beginning() == {}


def test_what_begins_a_text_is_put_and_taken_once():
    assert once((1, 2), [1, 2, 5]) == once((1, 2), [5]) == [1, 2, 5] and once((), [1]) == [1]
    assert once((1, 2), [1, 5]) == [1, 2, 1, 5], "half of it is text"
    assert without((1, 2), [1, 2, 5]) == [5] and without((1,), [5]) == [5] and without((), [1]) == [1]

    def odd(text, add_special_tokens=True):
        return {"input_ids": [7, 8] if add_special_tokens else [9]}

    with pytest.raises(ModelError, match=r"reads 'a' as \[7, 8\] with special tokens and as \[9\] without"):
        first_ids(odd)
