"""The smallest list that keeps a recall: bounds by enumeration, the search against brute force, the planted model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import workbench as wb
from workbench.errors import BadInput
from workbench.exporters import export
from workbench.exporters.provenance import PROVENANCE
from workbench.heads import HeadScores, ModelIdentity
from workbench.needle_recall import needle_recall
from workbench.recall_cut import Told, bounded, samples_for, smallest_list
from workbench.reference_models.catalogue import PLANTED
from workbench.scores_io import read_scores

COPIES = PLANTED["planted-copy"].roles["copy"]


def ranked(n: int, heads: int = 8) -> HeadScores:
    """n layers whose rank is the order of their places."""
    return HeadScores(-np.arange(n * heads, dtype=float).reshape(n, heads), "test", kv_heads=heads)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 10), (29, 30), (30, 30), (1, 1)])
def test_the_bound_is_the_share_at_which_so_many_hits_are_just_unlikely(hits, n):
    """Clopper–Pearson by its definition: P(at least so many hits | bound) = 5 %."""
    found = bounded(np.array([1.0] * hits + [0.0] * (n - hits)))
    assert (found.recall, found.n) == (hits / n, n)
    assert found.low == 0.0 if not hits else stats.binom.sf(hits - 1, n, found.low) == pytest.approx(0.05)


def test_samples_for_is_the_smallest_number():
    for target in (0.5, 0.9, 0.95, 0.99):
        n = samples_for(target)
        assert bounded(np.ones(n)).low >= target > bounded(np.ones(n - 1)).low


@pytest.mark.parametrize("seed", range(12))
def test_the_search_finds_the_first_k_that_suffices(seed):
    """Recall grows with K: the search must find what trying every K finds, and report other samples."""
    rng = np.random.default_rng(seed)
    scores = ranked(4)
    order = scores.rank()
    need = {part: rng.integers(0, 20, 80) for part in ("search", "report")}  # each sample needs its first heads
    asked: list[int] = []

    def told(part):
        def recall(lists):
            if part == "search":
                asked.extend(len(heads) for heads in lists)
            assert all(list(heads) == order[: len(heads)] for heads in lists)
            return np.array([[float(len(heads) >= n) for n in need[part]] for heads in lists])

        return recall

    steps: list[tuple[int, int]] = []
    found = smallest_list(scores, 0.8, Told(told("search"), told("report")), lambda *step: steps.append(step))
    assert [done for done, _ in steps[:-1]] == list(range(1, len(steps))) and steps[-1][0] == steps[-1][1] >= len(steps)
    brute = next(k for k in range(33) if bounded((need["search"] <= k).astype(float)).low >= 0.8)
    assert found.k == brute and found.search.low >= 0.8 and len(set(asked)) == len(asked) < 14
    held_out = bounded((need["report"] <= brute).astype(float))
    assert found.report == held_out and found.confirmed == (held_out.low >= 0.8)
    assert found.every_head.recall == 1.0


def test_what_is_not_confirmed_is_said(tmp_path):
    """A search set that flatters: the report tells so, in the file and in words."""
    from workbench.exporters.told import lines

    scores = ranked(2, 4)
    told = Told(lambda lists: np.ones((len(lists), 40)), lambda lists: np.array([[1.0, 0.0] * 20] * len(lists)))
    export(scores, "duo-attention", tmp_path, recall=0.9, told=told)
    said = json.loads((tmp_path / PROVENANCE).read_text())
    assert said["cut"]["recall"]["confirmed"] is False and said["cut"]["recall"]["report"]["recall"] == 0.5
    assert said["cut"]["full"] == said["cut"]["recall"]["k"] == 0
    assert any("NOT confirmed" in line for line in lines(said))


def test_targets_out_of_reach_are_refused():
    right = Told(*[lambda lists: np.ones((len(lists), 20))] * 2)
    with pytest.raises(BadInput, match="out of reach of 20 samples even if all are told: give samples=29"):
        smallest_list(ranked(1), 0.9, right)
    with pytest.raises(BadInput, match="a bound never reaches 1"):
        smallest_list(ranked(1), 1.0, right)
    poor = Told(*[lambda lists: np.array([[1.0, 1.0, 0.0] * 20] * len(lists))] * 2)
    with pytest.raises(BadInput, match="with every head full the model tells 0.667 of 60 samples"):
        smallest_list(ranked(1), 0.7, poor)


@pytest.mark.parametrize("level", ["kv", "query"])
def test_lists_are_asked_in_query_heads(level, tmp_path):
    """kv lists become whole groups; heads without a score are full in every list."""
    values = np.array([[0.1, 0.2, 0.9, 0.3, 0.0, 0.0], [np.nan, 0.5, 0.0, 0.0, 0.0, 0.0]])
    scores = HeadScores(values, "test", kv_heads=3, model=ModelIdentity("m", "c", "w"))
    seen: list[tuple] = []

    def recall(lists):
        seen.extend(lists)
        return np.array([[float((0, 3) in heads)] * 40 for heads in lists])

    export(scores, {"kv": "duo-attention", "query": "mask-mod"}[level], tmp_path, recall=0.9, unscored="full",
           told=Told(recall, recall))  # fmt: skip
    assert all((1, 0) in heads for heads in seen)
    kept = read_scores(tmp_path).values
    if level == "kv":
        np.testing.assert_array_equal(kept, [[0, 1, 0], [1, 0, 0]])
        assert all(((0, 2) in heads) == ((0, 3) in heads) and (1, 1) in heads for heads in seen)
    else:  # best first: L0H2, L1H1, L0H3
        np.testing.assert_array_equal(kept, [[0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def planted():
    """The planted copy model, and scores that rank its copy heads last but two."""
    model = wb.load("planted-copy")
    values = np.random.default_rng(0).random((model.n_layers, model.n_heads)) / 10
    values[0, 0], values[0, 1] = 0.9, 0.8  # two heads that copy nothing come first
    for i, head in enumerate(COPIES):
        values[head] = 0.7 - i / 10
    identity = ModelIdentity(model.name, *model.identity())
    return model, HeadScores(values, "planted", kv_heads=model.n_kv_heads, model=identity)


def test_the_planted_copy_heads_are_what_keeps_the_recall(planted, tmp_path):
    """The real wiring: needles outside the window are told as soon as the first copy head is full."""
    model, scores = planted
    told = needle_recall(model, 4, 36, samples=16, length=112)
    best = scores.rank()
    assert told.search([tuple(best[:2])]).mean() == 0 and told.search([tuple(best[:3])]).mean() == 1
    export(scores, "mask-mod", tmp_path, recall=0.8, model=model, samples=16, context=112, sink_size=4, recent_size=36)
    said = json.loads((tmp_path / PROVENANCE).read_text())["cut"]
    assert (said["full"], said["recall"]["k"], said["recall"]["confirmed"]) == (3, 3, True)
    assert (said["recall"]["report"]["n"], said["recall"]["search"]["n"]) == (16, 16)
    assert {tuple(h) for h in np.argwhere(read_scores(tmp_path).values)} == set(map(tuple, best[:3]))
    with pytest.raises(BadInput, match="have no place for needles outside sink_size=4 and recent_size=500"):
        export(scores, "mask-mod", tmp_path / "x", recall=0.9, model=model, context=112, sink_size=4, recent_size=500)


def test_search_and_report_ask_different_needles(planted, monkeypatch):
    from workbench import needle_recall as wiring

    asked = []

    def readable(model, samples, *rest):
        asked.append({(s.needle, s.tokens) for s in samples})
        return "exact recall", 1.0, lambda lists: np.ones((len(lists), len(samples)))

    monkeypatch.setattr(wiring, "readable_recall", readable)
    wiring.needle_recall(planted[0], 4, 36, samples=16, length=112)
    assert [len(part) for part in asked] == [16, 16] and not asked[0] & asked[1]


def test_scores_of_another_model_are_refused(planted, tmp_path):
    model, scores = planted
    for wrong, words in (
        (
            replace(scores, model=ModelIdentity("else", "c", "w")),
            "measured on else .config c, weights w., not on planted",
        ),
        (replace(scores, values=scores.values[:-1]), "another model's"),
        (
            replace(scores, kv_heads=model.n_heads // 2 if model.n_kv_heads == model.n_heads else model.n_heads),
            "key-value heads",
        ),
        (HeadScores(np.zeros((model.n_layers, model.n_heads + 1)), "imported"), "another model's"),
    ):
        with pytest.raises(BadInput, match=words):
            export(wrong, "mask-mod", tmp_path, sparsity=0.5, model=model)
    assert not list(tmp_path.iterdir())
    export(scores, "mask-mod", tmp_path, sparsity=0.5, model=model)
    with pytest.raises(BadInput, match="another model's"):
        read_scores(tmp_path, model="llama")
    assert read_scores(tmp_path, model=model).verified
