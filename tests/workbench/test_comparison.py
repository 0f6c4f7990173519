"""Comparison of head scores: references, ties, geometry, and the published figures."""

from __future__ import annotations

import itertools
import json
from math import comb

import numpy as np
import published
import pytest
from rich.console import Console
from scipy import stats

from workbench.comparison import compare
from workbench.errors import BadInput
from workbench.heads import HeadScores, ModelIdentity

NAN = float("nan")


def plain(values, **fields) -> HeadScores:
    return HeadScores(np.array(values, dtype=float), "test", **fields)


def pair(seed: int = 0) -> tuple[HeadScores, HeadScores]:
    """Two related sets of scores with many ties."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 8, (4, 6)) / 10
    return plain(a), plain(np.round((a + rng.integers(0, 8, (4, 6)) / 10) / 2, 1))


def test_llama_against_mistral():
    a, b = published.scores("llama-2-7b-80k"), published.scores("Mistral-7B-v0.2-hf")
    found = a.compare(b)
    assert (round(found.pearson, 3), found.overlap, round(found.jaccard, 2)) == (-0.009, 0, 0.03)
    assert (found.p_overlap, found.n_heads) == (1.0, 1024)


@pytest.mark.parametrize(
    ("scores", "gates", "spearman", "auc"),
    [
        ("llama-2-7b-80k", "Llama-2-7B-32K-Instruct", 0.464, 0.866),
        ("Mistral-7B-v0.2-hf", "Mistral-7B-Instruct-v0.2", 0.506, 0.734),
    ],
)
def test_copy_scores_against_gates(scores, gates, spearman, auc):
    found = compare(published.scores(scores), published.gates(gates))
    assert (round(found.spearman, 3), round(found.auc, 3)) == (spearman, auc)
    assert any("tie at the cut" in note for note in found.notes)
    reduced = [note for note in found.notes if "max over 4 query heads" in note]
    assert len(reduced) == (gates == "Mistral-7B-Instruct-v0.2")


def test_retrieval_heads_lost_at_half_sparsity():
    """5 or 6 of Mistral's 31 copying key-value heads become streaming heads, by how ties at the cut are broken."""
    gates = published.gates("Mistral-7B-Instruct-v0.2")
    copies = published.scores("Mistral-7B-v0.2-hf")
    copies = HeadScores(copies.values, "copy", kv_heads=8).to_kv_heads()
    copying = set(copies.at_least(0.1))
    by_place = gates.top(gates.values.size // 2)
    by_score = HeadScores(gates.values, "gates", clip=gates.clip, tiebreak=copies.values).top(gates.values.size // 2)
    assert len(copying) == 31
    assert len(copying - set(by_score)) == 5
    assert len(copying - set(by_place)) in (5, 6)


@pytest.mark.parametrize("seed", range(5))
def test_statistics_against_references(seed):
    a, b = pair(seed)
    found = compare(a, b, k=5, threshold=0.3)
    x, y = a.values.ravel(), b.values.ravel()
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    positive = x >= 0.3
    pairs = [(p > q) + (p == q) / 2 for p in y[positive] for q in y[~positive]]
    assert found.auc == pytest.approx(np.mean(pairs))
    lists = [set(side.at_least(0.3)) for side in (a, b)]
    assert found.jaccard == pytest.approx(len(lists[0] & lists[1]) / len(lists[0] | lists[1]))
    assert found.overlap == len(set(a.top(5)) & set(b.top(5))) == len(found.shared)


def test_chance_of_overlap_by_counting():
    """All 20 pairs of a 3-list against a fixed 3-list of 6 heads."""
    a, b = plain([[6, 5, 4, 3, 2, 1]]), plain([[6, 5, 1, 4, 2, 3]])
    found = compare(a, b, k=3)
    assert found.overlap == 2
    counts = [len({0, 1, 2} & set(other)) for other in itertools.combinations(range(6), 3)]
    assert found.p_overlap == pytest.approx(sum(c >= 2 for c in counts) / comb(6, 3))


def test_itself_and_its_reverse():
    a = plain(np.arange(12.0).reshape(3, 4) / 12)
    same, reverse = compare(a, a, k=4, threshold=0.5), compare(a, plain(1 - a.values), k=4, threshold=0.5)
    assert (same.pearson, same.spearman, same.jaccard, same.auc) == pytest.approx((1, 1, 1, 1))
    assert same.overlap == 4 and same.p_overlap == pytest.approx(1 / comb(12, 4))
    assert (reverse.pearson, reverse.spearman, reverse.auc) == pytest.approx((-1, -1, 0))
    assert reverse.overlap == 0


def test_heads_that_one_side_did_not_score_are_left_out():
    a = plain([[NAN, 0.5, 0.4], [0.3, 0.2, 0.1]])
    b = plain([[0.9, 0.5, 0.4], [0.3, 0.2, NAN]])
    found = compare(a, b, k=2)
    assert found.n_heads == 4 and found.overlap == 2 and found.pearson == pytest.approx(1)
    assert any("2 of 6 heads left out" in note for note in found.notes)
    with pytest.raises(BadInput, match="in common"):
        compare(plain([[NAN, 1]]), plain([[1, NAN]]))


def test_statistics_that_are_not_defined_are_nan_and_said():
    found = compare(plain([[0, 0, 0, 0]]), plain([[0, 0.01, 0.02, 0.03]]), k=2)
    assert np.isnan([found.pearson, found.spearman, found.jaccard, found.auc]).all()
    text = " / ".join(found.notes)
    assert "no correlation" in text and "no Jaccard" in text and "no AUC" in text
    assert "2 more heads of A tie" in text
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert summary["pearson"] is None


def test_the_finer_side_is_reduced_to_kv_heads():
    fine = plain(np.arange(16.0).reshape(2, 8) / 16)
    coarse = plain(fine.values.reshape(2, 4, 2).max(-1), kv_heads=4)
    for found, name in ((compare(fine, coarse, k=3), "A"), (compare(coarse, fine, k=3), "B")):
        assert found.pearson == pytest.approx(1) and found.n_heads == 8
        assert f"{name} reduced to 4 key-value heads a layer: max over 2 query heads" in found.notes
    known = plain(fine.values, kv_heads=4)
    assert compare(known, plain(coarse.values), k=3).n_heads == 8


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (plain(np.ones((2, 4))), plain(np.ones((3, 4))), "same shape"),
        (plain(np.ones((2, 8))), plain(np.ones((2, 4))), "kv_heads=4"),
        (plain(np.ones((2, 8)), kv_heads=2), plain(np.ones((2, 4))), "not query and key-value heads"),
        (plain(np.ones((2, 6))), plain(np.ones((2, 4)), kv_heads=4), "not query and key-value heads"),
    ],
)
def test_shapes_that_do_not_match(a, b, words):
    with pytest.raises(BadInput, match=words):
        compare(a, b)


def test_identity_is_said():
    identity = ModelIdentity("a", "c", "w")
    known, other = plain([[1, 0]], model=identity), plain([[1, 0]], model=ModelIdentity("a", "c", "finetuned"))
    assert not any("model" in note for note in compare(known, known).notes)
    assert any("different models" in note for note in compare(known, other).notes)
    assert any(note.startswith("B unverified") for note in compare(known, plain([[1, 0]])).notes)


def test_bad_k():
    with pytest.raises(BadInput, match="k=0"):
        compare(*pair(), k=0)
    assert compare(*pair(), k=999).k == 24


def test_terminal_shows_every_figure():
    console = Console(width=200)
    found = compare(*pair(), k=5, threshold=0.3)
    with console.capture() as shown:
        console.print(found)
    text = shown.get()
    for part in (f"{found.pearson:.3f}", f"{found.auc:.3f}", f"{found.overlap} of 5", "note: A and B unverified"):
        assert part in text
