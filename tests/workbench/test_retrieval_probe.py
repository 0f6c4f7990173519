"""Retrieval scores against plain Hugging Face generation: answers that never match, batches, margins, budgets."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from plain_retrieval import KINDS, WINDOWED, Case, N, check, eager, random_case

import workbench as wb
from workbench.interventions import mask
from workbench.probes import caches, decoding, retrieval, waiting
from workbench.probes.retrieval import decoding_agreement, score_block, score_sample, score_samples
from workbench.reference_models import catalogue
from workbench.tasks.needle import Assembler, Sample, blocks


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    return random_case(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def watch(monkeypatch):
    """Shapes of the forwards of a model from now on, and whether they were padded."""

    def start(model: Any) -> list[tuple[int, int, bool]]:
        seen, forward = [], model.forward

        def spy(tokens, attention_mask=None, **options):
            seen.append((*tokens.shape, attention_mask is not None))
            return forward(tokens, attention_mask, **options)

        monkeypatch.setattr(model, "forward", spy)
        return seen

    return start


def test_decoding_in_one_padded_batch_equals_hugging_face(case, watch):
    seen = watch(case.model)
    scores = score_block(case.model, case.block, case.stops)
    assert check(case, scores) >= 5, "heads copy"
    n, decoded = len(case.block.samples), [s.decoded for s in scores]
    assert not decoded[1] and scores[1].response == [], "one row ends at once"
    assert any(s.response and not s.decoded for s in scores), "one forward settles another"
    assert len({len(s.response) for s in scores}) >= 4 and max(len(s.response) for s in scores) == 50
    before = n + sum(bool(s.null) for s in case.block.samples) + (case.kind not in WINDOWED)  # and the haystack's
    steps = seen[before:]
    longest = max(len(s.tokens) for s, d in zip(case.block.samples, decoded, strict=True) if d)
    assert steps[0][0] == sum(decoded) >= 3 and steps[0][2]
    assert steps[0][1] == 1 if case.kind not in WINDOWED else steps[0][1] >= longest
    rows = [r for r, _, _ in steps]
    assert rows == sorted(rows, reverse=True) and rows[-1] < rows[0], "finished rows leave"
    assert all(width == 1 for _, width, _ in steps[1:])


@pytest.mark.parametrize("share", [0.01, 2.5])
def test_a_budget_splits_the_batch_and_changes_nothing(case, monkeypatch, share: float):
    cache = case.model.forward(torch.tensor([case.block.haystack]), use_cache=True).cache
    token, groups = caches.bytes_per_token(cache), []
    budget = share * token * max(len(s.tokens) + N for s in case.block.samples)

    def spy(model, branches, stops):
        groups.append([len(b.text) for b in branches])
        decoding.decode(model, branches, stops)

    monkeypatch.setattr(waiting, "decode", spy)
    check(case, score_block(case.model, case.block, case.stops, budget=budget))
    groups = [g for g in groups if g]
    assert all(len(g) == 1 or len(g) * max(g) * token <= budget for g in groups)
    assert len(groups) >= 2 and max(map(len, groups)) == 1 if share < 1 else max(map(len, groups)) >= 2


def test_rows_that_may_not_be_padded_go_by_length(case, watch, monkeypatch):
    monkeypatch.setattr(decoding, "can_pad", lambda model: False)
    seen = watch(case.model)
    check(case, score_block(case.model, case.block, case.stops))
    assert not any(padded for _, _, padded in seen)
    if case.kind == "llama":
        twice = (case.block.samples[0],) * 3
        scores = score_samples(case.model, twice, case.stops)
        assert seen[-1][0] == 3 and scores[0].response == scores[2].response != []


def test_a_learned_position_table_ends_the_response(case):
    tokens = tuple(np.random.default_rng(0).integers(3, 97, 250).tolist())
    spans = {"answer": (3, 5), "statement": (2, 6)}
    long = Sample(tokens, tokens[3:5], spans, 0, "", "", 0.0, (0, 0.0))
    short = replace(long, tokens=tokens[:100])
    scores = score_samples(case.model, [short, long], set())
    assert [len(s.response) for s in scores] == [50, 7]  # the last token of 256 is not fed
    texts = [case.plain.generate(torch.tensor([s.tokens]), max_new_tokens=7, do_sample=False) for s in (short, long)]
    for ours, text, sample in zip(scores, texts, (short, long), strict=True):
        theirs = list(itertools.takewhile(lambda t: t != 2, text[0, len(sample.tokens) :].tolist()))
        assert ours.response[: len(theirs)] == theirs


@pytest.fixture(scope="module")
def bundled():
    model = wb.load("llama")
    block = next(blocks(Assembler(model.tokenizer), [160], [0.0, 40.0, 100.0], 1, 11))
    return Case("bundled", model, eager(catalogue.folder("llama")), block, {model.tokenizer.convert_tokens_to_ids(".")})


@pytest.mark.parametrize("sure", [True, False])
def test_unsure_margins_change_the_way_and_not_the_scores(bundled, monkeypatch, sure: bool):
    if not sure:
        monkeypatch.setitem(retrieval.MARGIN, torch.float32, float("inf"))
    scores = score_block(bundled.model, bundled.block, bundled.stops)
    assert check(bundled, scores) >= 3 * 4
    assert all(s.decoded != sure and s.exact and s.accepted for s in scores)


def test_decoding_begins_at_the_unsure_step(bundled, monkeypatch, watch):
    sample = bundled.block.samples[1]
    n = len(sample.answer)
    monkeypatch.setattr(retrieval, "_sure", lambda logits: torch.arange(n + 1) != n - 1)
    seen = watch(bundled.model)
    ours = score_sample(bundled.model, sample, bundled.stops)
    assert ours.response == list(sample.answer) and ours.decoded
    assert seen[:2] == [(1, len(sample.tokens) + n, False), (1, len(sample.null), False)]
    assert seen[2:] == [(1, 1, False), (1, 1, False)], "the last token, then the stop"


@pytest.mark.parametrize("sure", [True, False])
def test_a_stop_token_inside_the_answer_does_not_end_it(bundled, monkeypatch, sure: bool):
    if not sure:
        monkeypatch.setitem(retrieval.MARGIN, torch.float32, float("inf"))
    sample = bundled.block.samples[0]
    assert score_sample(bundled.model, sample, bundled.stops | {sample.answer[1]}).response == list(sample.answer)
    other = replace(sample, answer=(sample.answer[0], *sample.answer[2:], sample.answer[0]))
    ours = score_sample(bundled.model, other, bundled.stops | {sample.answer[1]})
    assert ours.response == [sample.answer[0]] and ours.decoded != sure


@torch.no_grad()
def test_interventions_hold_while_decoding(bundled, monkeypatch):
    monkeypatch.setitem(retrieval.MARGIN, torch.float32, float("inf"))
    free = score_block(bundled.model, bundled.block, bundled.stops)
    heads = [divmod(int(i), 16) for i in np.argsort(-sum(s.raw for s in free).ravel())[:6]]
    for at in ("both", "decode"):
        with wb.intervene(bundled.model, mask(heads, at=at)):
            masked = score_block(bundled.model, bundled.block, bundled.stops)
            for sample, ours, before in zip(bundled.block.samples, masked, free, strict=True):
                out = bundled.model.generate(torch.tensor([sample.tokens]), 50, stop=sorted(bundled.stops))[0].tolist()
                assert ours.response == (out[:-1] if out[-1] in bundled.stops else out) != before.response


@torch.no_grad()
def test_agreed_tokens_that_are_fed_again_count_as_decoded(case, monkeypatch):
    """Where nothing can be rolled back the agreed tokens stand in a prefill, yet edits of decoding hold in them."""
    sample = case.block.samples[4]
    edit = mask([(0, h) for h in range(8)], at="decode")
    with wb.intervene(case.model, edit):
        said = case.model.generate(torch.tensor([sample.tokens]), 6, stop=[])[0].tolist()
        sample = replace(sample, answer=tuple(said[:5]), spans={**sample.spans, "answer": (30, 35)})
        monkeypatch.setattr(retrieval, "_sure", lambda logits: torch.arange(6) != 4)
        ours = score_sample(case.model, sample, {said[5]})
        branch = decoding.Branch(sample)
        decoding.decode(case.model, [branch], {said[5]})
    assert ours.response == branch.response and len(branch.response) >= 4
    weights = torch.cat([x.mass[:, 0] for x in branch.looks], -2).mean(2)
    np.testing.assert_allclose(ours.statement_mass, weights[..., 1], atol=1e-5)  # as in plain_retrieval


def test_agreement_counts_responses_and_scores(bundled, monkeypatch):
    samples = bundled.block.samples
    assert decoding_agreement(bundled.model, samples, bundled.stops) == (3, 3)
    good = score_samples(bundled.model, samples, bundled.stops)
    bad = [replace(good[0], response=[1]), replace(good[1], raw=good[1].raw + 1), good[2]]
    monkeypatch.setattr(retrieval, "score_samples", lambda *a, **k: bad)
    assert decoding_agreement(bundled.model, samples, bundled.stops) == (1, 3)


def test_a_token_takes_its_keys_and_values(case):
    cache = case.model.forward(torch.tensor([case.block.haystack]), use_cache=True).cache
    first = cache.layers[0].keys
    assert caches.bytes_per_token(cache) == 2 * 3 * first.shape[1] * first.shape[3] * 4
    assert caches.can_roll_back(case.model) == (case.kind not in WINDOWED) and caches.can_pad(case.model)


@pytest.mark.parametrize(
    ("others", "near", "weight", "at_stake"),
    [
        ([3, 5, 4], [True, True, True], 0.3, 1), ([3, 5, 4], [True, False, False], 0.3, 0),  # the copy is the third
        ([3, 4, 6], [True, True, True], 0.3333333, 1), ([3, 4, 6], [True, True, True], 0.2, 0),  # it may be behind them
        ([3, 4, 6], [True, True, False], 0.9, 0), ([5, 4, 6], [False, False, False], 0.9, 0),
    ],
)  # fmt: skip
def test_a_copy_among_near_keys_is_at_stake(others, near, weight: float, at_stake: int):
    sample = Sample((1, 1, 1, 1, 1, 9, 1, 1), (9,), {"answer": (5, 6)}, 0, "", "", 0.0, (0, 0.0))
    keys, top = (torch.full((1, 1, 1, 1), x) for x in (2, 0.3333334))
    others, near = (torch.tensor(x).view(1, 1, 1, 1, 3) for x in (others, near))
    mass = torch.tensor([weight, weight]).view(1, 1, 1, 1, 2)
    looks = decoding.Looks((0,), keys, others, near, top, mass)
    ties = retrieval._ties(sample, [9], decoding.Branch(sample, looks=[looks]))
    assert (ties.near_ties, ties.ties_at_stake) == (int(near[..., 0]), at_stake)
