"""The proof on a random model: curves against masking by hand, resuming, corrections, the control that must not pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_models
import torch

import workbench as wb
from workbench.heads import HeadScores
from workbench.masked_recall import exact_recall, rouge
from workbench.tasks.needle import Sample
from workbench.validation import Proof, validate
from workbench.views.masking import wilson


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def samples(model):
    """Prompts whose expected answer is what the unmasked model says."""
    out = []
    for seed in range(6):
        prompt = torch.randint(3, 97, (1, 20 + seed), generator=torch.Generator().manual_seed(seed))
        answer = model.generate(prompt, 3, stop=[])[0]
        out.append(
            Sample(tuple(prompt[0].tolist()), tuple(answer.tolist()), {}, 0, f"n{seed}", "words", 50.0, (20, 50))
        )
    return out


@pytest.fixture(scope="module")
def scores():
    return HeadScores(np.random.default_rng(0).random((3, 8)), "random")


def test_exact_recall_is_what_greedy_decoding_says(model, samples):
    lists = [(), ((0, 1),), ((1, 0), (2, 3)), ((2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5))]
    proof = Proof(samples)
    found = exact_recall(model, samples, lists, proof.ablate, 2)
    assert found[0].all() and not found[1:].all(), "some list changes an answer"
    for i, heads in enumerate(lists):
        for j, sample in enumerate(samples):
            said = model.generate(torch.tensor([sample.tokens]), 3, stop=[], edits=wb.mask(heads))[0]
            assert found[i, j] == (tuple(said.tolist()) == sample.answer)


def test_rouge_reads_the_masked_response(model, samples):
    lists = [(), ((0, 0), (0, 1), (0, 2), (0, 3))]
    found = rouge(model, samples, lists, Proof(samples).ablate, 8, set())
    for i, heads in enumerate(lists):
        for j, sample in enumerate(samples):
            said = model.generate(torch.tensor([sample.tokens]), 16, stop=[], edits=wb.mask(heads))[0].tolist()
            words = model.tokenizer.decode(sample.answer).split()
            assert found[i, j] == pytest.approx(
                sum(min(words.count(w), model.tokenizer.decode(said).split().count(w)) for w in set(words)) / len(words)
            )
    assert (found[0] == 1).all()


@pytest.mark.parametrize("how", ["zero", "uniform", "window", "mean", "resample"])
def test_every_ablation_gives_curves(model, samples, scores, how):
    prose = torch.randint(3, 97, (2, 96), generator=torch.Generator().manual_seed(9))
    source = wb.reference(model, prose, how) if how in ("mean", "resample") else None
    v = validate(model, scores, Proof(samples, (1, 3), 5, 2, how, source, prose, batch=3))
    assert v.ablation == how and v.base == 1.0 and v.metric == "exact recall"
    assert [p.k for p in v.points] == [1, 3] and all(len(p.matched) == 5 and len(p.all_layers) == 2 for p in v.points)
    assert v.p is not None and v.p >= v.p_smallest == pytest.approx(1 / 6)
    assert all(p.q >= p.p for p in v.points), "correcting never lowers p"
    assert v.off_task is not None and any(abs(p.off_task - v.off_task) > 1e-6 for p in v.points)


def test_a_random_list_is_no_better_than_its_control(model, samples):
    """The negative control: over random lists p is not small more often than chance allows."""
    ps = []
    for seed in range(12):
        random = HeadScores(np.random.default_rng(seed).random((3, 8)), "random")
        ps.append(validate(model, random, Proof(samples, (1, 2), 9, 0, seed=seed)).p)
    assert np.mean(np.array(ps) <= 0.1) <= 0.5 and max(ps) > 0.3


def test_a_killed_proof_goes_on_with_what_is_finished(model, samples, scores):
    kept = {}

    def remember(unit, work):
        if unit not in kept:
            if len(kept) == 2:
                raise KeyboardInterrupt
            kept[unit] = work()
        return kept[unit]

    proof = Proof(samples, (1, 2, 3), 4, 2)
    with pytest.raises(KeyboardInterrupt):
        validate(model, scores, proof, remember)
    finished, whole = dict(kept), validate(model, scores, proof)

    def again(unit, work):
        return finished.pop(unit) if unit in finished else work()

    assert validate(model, scores, proof, again) == whole and not finished


def test_where_no_control_exists_there_is_no_p(model, samples):
    values = np.full((3, 8), np.nan)
    values[1, :2] = (1.0, 0.5)
    v = validate(model, HeadScores(values, "two heads"), Proof(samples, (1, 2, 3), 5, 1))
    assert [p.k for p in v.points] == [1, 2], "no third head has a score"
    assert v.points[0].matched and v.points[0].enumerated and not v.points[1].matched
    assert v.points[1].p is None and v.p is not None


def test_answers_in_other_words_are_read_by_rouge(model, samples):
    wordy = [replace(s, answer=s.answer[1:]) for s in samples]
    scores = HeadScores(np.random.default_rng(1).random((3, 8)), "random")
    v = validate(model, scores, Proof(wordy, (1,), 3, 1))
    assert v.metric == "ROUGE-1 recall" and v.base == 1.0


def test_wilson_is_the_textbook_interval():
    from scipy.stats import binomtest

    for hits in (0, 1, 7, 16):
        expected = binomtest(hits, 16).proportion_ci(method="wilson")
        assert wilson(hits / 16, 16) == pytest.approx((expected.low, expected.high), abs=1e-6)
