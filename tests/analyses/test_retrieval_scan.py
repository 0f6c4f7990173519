"""The main job on the bundled model, on a model without retrieval heads, and the pieces of its score."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from workbench_analyses.retrieval.claims import claims
from workbench_analyses.retrieval.scan import run_scan

import workbench as wb
from workbench.errors import BadInput
from workbench.probes.retrieval import copy_cache, rouge_recall, score_block, score_sample
from workbench.tasks.needle import Assembler, blocks

SHARED = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).parents[2].parent / "shared"))
STORIES = SHARED / "data" / "models" / "stories260k"
SMALL = {"lengths": (128, 256), "depths": (0.0, 50.0, 100.0), "rounds": 3, "until": None}


@pytest.fixture(scope="module")
def llama():
    return wb.load("llama")


@pytest.fixture(scope="module")
def found(llama):
    return wb.analyses.retrieval_heads.scan(llama, **SMALL)


def test_the_scan_finds_heads_whose_masking_destroys_recall(found):
    assert found.accepted == len(found.samples) == 18
    listed = found.scores.at_least(0.5)
    assert 2 <= len(listed) <= 8 and {h.layer for h in listed} <= {2, 3}
    assert (found.scores.values == 0).mean() >= 0.5, "sparse"
    v = found.validation
    assert v.base >= 0.95
    last = next(p for p in v.points if p.k == 6)
    assert last.top <= 0.1 and np.mean(last.matched) >= 0.95
    assert v.p <= 0.05 and v.halves_at is not None


def test_the_question_draws_the_heads_that_copy(found):
    qr = found.companions["qrhead"]
    assert qr.n == 18 and qr.method == "retrieval/qrhead" and qr.parameters["null_query"] == "no"
    assert set(qr.top(4)) <= set(found.scores.at_least(0.5)), "known by another score"
    assert found.focus.overlap >= 4 and found.focus.p_overlap < 0.01
    assert found.summary()["qrhead"]["top"][0]["low"] > 0
    said = {c.name: c for c in claims(found)}
    assert said["query-focused"].answer == "yes" and "n = 9" in said["query-focused"].evidence
    assert said["sufficient"].evidence == "proof=full keeps the list"


def test_scores_agree_with_a_plain_hugging_face_forward(llama, found):
    """The definition written out on eager attentions of one sample per block, batch one."""
    from transformers import AutoModelForCausalLM

    folder = Path(wb.__file__).parent / "reference_models" / "llama"
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for block in blocks(Assembler(llama.tokenizer), [128], [50.0], 2, 3):
        sample = block.samples[0]
        ours = score_sample(llama, sample, {llama.tokenizer.convert_tokens_to_ids(".")})
        tokens = torch.tensor([[*sample.tokens, *sample.answer]])
        with torch.no_grad():
            out = plain(tokens, output_attentions=True)
        start, end = sample.spans["answer"]
        assert tokens[0, start:end].tolist() == list(sample.answer)
        expected = np.zeros((4, 16))
        for i, w in enumerate(sample.answer):
            row = len(sample.tokens) - 1 + i
            assert int(out.logits[0, row].argmax()) == w
            for layer in range(4):
                key = out.attentions[layer][0, :, row].argmax(-1)
                expected[layer] += [start <= k < end and int(tokens[0, k]) == w for k in key.tolist()]
        np.testing.assert_allclose(ours.raw, expected / len(sample.answer))
        assert ours.exact and not ours.decoded


def test_one_forward_equals_decoding_token_by_token(llama, monkeypatch):
    block = next(blocks(Assembler(llama.tokenizer), [192], [0.0, 40.0, 100.0], 1, 11))
    stops = {llama.tokenizer.convert_tokens_to_ids(".")}
    quick = score_block(llama, block, stops)
    monkeypatch.setattr("workbench.probes.retrieval._sure", lambda logits: False)
    slow = score_block(llama, block, stops)
    for a, b in zip(quick, slow, strict=True):
        assert not a.decoded and b.decoded and a.response == b.response
        for name in ("distinct", "raw", "mass"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-5)


def test_a_shared_prefix_changes_nothing(llama):
    block = next(blocks(Assembler(llama.tokenizer), [192], [0.0, 40.0, 100.0], 1, 12))
    stops = {llama.tokenizer.convert_tokens_to_ids(".")}
    shared = score_block(llama, block, stops)
    for sample, ours in zip(block.samples, shared, strict=True):
        alone = score_sample(llama, sample, stops)
        np.testing.assert_array_equal(ours.distinct, alone.distinct)
        np.testing.assert_allclose(ours.mass, alone.mass, atol=1e-5)


def test_a_copied_cache_is_cut_and_independent(llama):
    tokens = llama.tokens("the old lamp of alice was red .")
    cache = llama.forward(tokens, use_cache=True).cache
    part = copy_cache(llama, cache, 4)
    llama.forward(tokens[:, 4:], cache=part)
    assert cache.get_seq_length() == tokens.shape[1] == part.get_seq_length()


def test_the_run_folder_holds_everything_and_resumes(llama, tmp_path):
    options = {**SMALL, "proof": "none", "out": str(tmp_path)}
    found = wb.analyses.retrieval_heads.scan(llama, **options)
    folder = Path(found.path)
    published = json.loads((folder / "scores.json").read_text())
    assert set(published) == {f"{layer}-{head}" for layer in range(4) for head in range(16)}
    top = found.scores.top(1).heads[0]
    assert np.mean(published[f"{top.layer}-{top.head}"]) == pytest.approx(found.scores.values[top], abs=1e-6)
    assert len(pd.read_parquet(folder / "samples.parquet")) == 18
    assert json.loads((folder / "run.json").read_text())["state"] == "done"
    page = (folder / "report.html").read_text()
    assert "not Meta&#x27;s weights" in page and len(page) < 2_500_000
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert wb.read_scores(folder).top(5).heads == found.scores.top(5).heads
    qr = wb.read_scores(folder / "qrhead.json")
    np.testing.assert_array_equal(qr.per_sample, found.companions["qrhead"].per_sample)
    assert wb.compare(wb.read_scores(folder), qr, k=5).n_heads == 64
    assert wb.export(qr, "duo-attention", tmp_path / "duo", sparsity=0.5)
    next((folder / "shards").iterdir()).unlink()
    again = wb.analyses.retrieval_heads.scan(llama, **options)
    assert again.path == found.path
    np.testing.assert_array_equal(again.scores.values, found.scores.values)


@pytest.mark.skipif(not STORIES.is_dir(), reason="stories260k is not in the shared data folder")
def test_a_model_without_retrieval_heads_is_not_scored():
    scan = wb.analyses.retrieval_heads.scan(str(STORIES), lengths=(128, 256), depths=(0.0, 50.0, 100.0), rounds=2)
    assert scan.accepted < 5 and scan.scores.n == 0
    assert np.isnan(scan.scores.values).all()
    assert scan.verdict.startswith(f"not scored: {scan.accepted} of 12 answered; no induction head (max 0.0")
    assert scan.validation is None and scan.summary()["validation"] == "not validated"
    assert scan.companions["qrhead"].n == 12 and scan.companions["qrhead"].values.max() < 0.05, (
        "nor does a question draw"
    )
    assert {c.name: c.answer for c in claims(scan)}["causal"] == "not testable"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": (8192,)}, "takes 4096 tokens; set lengths="),
        ({"lengths": (-5,)}, "at least 64"),
        ({"depths": (120.0,)}, "0 to 100"),
        ({"needles": "nowhere.jsonl"}, "cannot be read"),
        ({"template": "chat"}, "no chat template"),
        ({"ablation": "erase"}, "use zero, mean"),
        ({"recent": 0}, "recent ≥ 1"),
        ({"sink": -1}, "sink ≥ 0"),
    ],
)
def test_bad_options_are_said_in_one_line(llama, options, words):
    with pytest.raises(BadInput, match=words) as error:
        wb.analyses.retrieval_heads.scan(llama, **options)
    assert "\n" not in str(error.value)


def test_own_needles_are_checked(tmp_path, llama):
    file = tmp_path / "needles.jsonl"
    file.write_text("")
    with pytest.raises(BadInput, match="no needle in it"):
        wb.analyses.retrieval_heads.scan(llama, needles=str(file))
    file.write_text('{"needle": "the lamp is red", "answer": "blue", "question": "x"}\n')
    with pytest.raises(BadInput, match=":1: the answer 'blue'"):
        wb.analyses.retrieval_heads.scan(llama, needles=str(file))


def test_rouge_recall_counts_words_once():
    assert rouge_recall("a b b", "b a c") == pytest.approx(2 / 3)
    assert rouge_recall("a", "") == 0


def test_run_scan_takes_a_config_like_the_command_line(llama):
    from workbench_analyses.retrieval_heads import ScanHeads

    config = ScanHeads(out=None, proof="none", lengths=(128,), depths=(50.0,), rounds=6, until=None)
    scan = run_scan(config, llama)
    assert "not validated" in scan.verdict and scan.accepted == 6
