"""Comparison of head scores: references, ties, geometry, and the published figures."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
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
    """5 to 7 of Mistral's 31 copying kv heads stream: 20 gates equal the last kept one, 2 of them are left out."""
    gates, copies = published.gates("Mistral-7B-Instruct-v0.2"), published.scores("Mistral-7B-v0.2-hf")
    lost = compare(copies, gates, sparsity=0.5).lost
    assert lost is not None and (lost.listed, lost.least, lost.most) == (31, 5, 7)
    assert len(lost.heads) in (5, 6), "in the order of (layer, head)"
    reduced = HeadScores(copies.values, "copy", kv_heads=8).to_kv_heads()
    for seed in range(20):  # the published loader: noise on the clipped gates, then a quantile
        noisy = gates.ranking + np.random.default_rng(seed).uniform(0, 1e-6, gates.values.shape)
        full = noisy >= np.quantile(noisy, 0.5)
        assert lost.least <= sum(not full[head] for head in reduced.at_least(0.1)) <= lost.most
    best = replace(gates, tiebreak=reduced.values)
    assert len(compare(copies, best, sparsity=0.5).lost.heads) == 5
    assert compare(copies, gates).lost is None
    with pytest.raises(BadInput, match="give 0 to 1"):
        compare(copies, gates, sparsity=1.5)


@pytest.mark.parametrize("seed", range(6))
def test_the_span_of_lost_heads_is_what_tie_breaking_can_do(seed):
    """Every way to keep some of the equal heads, tried."""
    rng = np.random.default_rng(seed)
    a, b = plain(rng.random((2, 4))), plain(rng.integers(0, 3, (2, 4)))
    lost = compare(a, b, threshold=0.4, sparsity=0.5).lost
    listed = {tuple(h) for h in np.argwhere(a.values >= 0.4)}
    counts = [
        len(listed - set(kept))
        for kept in itertools.combinations(np.ndindex(2, 4), 4)
        if min(b.values[h] for h in kept) >= max(b.values[h] for h in set(np.ndindex(2, 4)) - set(kept))
    ]
    assert (lost.least, lost.most) == (min(counts), max(counts)) and lost.least <= len(lost.heads) <= lost.most
    assert {tuple(h) for h in lost.heads} == listed - set(b.top(4))
    none, every = (compare(a, b, threshold=0.4, sparsity=x).lost for x in (0.0, 1.0))
    assert (len(none.heads), none.most, len(every.heads), every.least) == (0, 0, len(listed), len(listed))


def test_loaders_with_noise_do_not_agree_with_themselves():
    """Jaccard of the full heads of two loads of one file, as published loaders cut it (serving facts, section 1)."""
    drawn = {"Llama-2-7B-32K-Instruct": (0.953, 1.0, 0.990), "Mistral-7B-Instruct-v0.2": (0.995, 0.972, 0.418)}
    for name, expected in drawn.items():
        gates = published.gates(name).ranking
        for sparsity, figure in zip((0.25, 0.5, 0.75), expected, strict=True):
            full = []
            for seed in range(40):
                noisy = gates + np.random.default_rng(seed).uniform(0, 1e-6, gates.shape)
                full.append(noisy >= np.quantile(noisy, sparsity))
            agree = [(x & y).sum() / (x | y).sum() for x, y in zip(full[::2], full[1::2], strict=True)]
            assert np.mean(agree) == pytest.approx(figure, abs=0.06), (name, sparsity)
        # ours: the same list every time, and the ambiguous heads counted
        top = published.gates(name).top(gates.size // 4)
        assert top == published.gates(name).top(gates.size // 4)
    assert published.gates("Mistral-7B-Instruct-v0.2").top(64).ambiguous == 46


def test_the_share_above_a_half_is_no_sparsity():
    """A fixed 0.5 keeps 43.6 % of Llama-2's heads and 95.3 % of Mistral's key-value heads."""
    for name, share in (("Llama-2-7B-32K-Instruct", 0.436), ("Mistral-7B-Instruct-v0.2", 0.953)):
        gates = published.gates(name)
        assert round(len(gates.at_least(0.5)) / gates.values.size, 3) == share


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
    found = compare(*pair(), k=5, threshold=0.3, sparsity=0.5)
    assert found.lost is not None and json.loads(json.dumps(found.summary()))["lost"]["listed"] == found.lost.listed
    with console.capture() as shown:
        console.print(found)
    text = shown.get()
    for part in (
        f"{found.pearson:.3f}",
        f"{found.auc:.3f}",
        f"{found.overlap} of 5",
        "note: A and B unverified",
        str(found.lost)[:40],
    ):
        assert part in text
