"""Cuts against naive references: budgets, ties, ranks and their balance, what a cut loses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import published
import pytest
from rich.console import Console

from workbench.errors import BadInput
from workbench.exporters import export
from workbench.exporters.balance import balanced, per_rank
from workbench.exporters.cut import cut, kv_share
from workbench.exporters.cutting import Cutting
from workbench.exporters.provenance import PROVENANCE
from workbench.exporters.told import lines
from workbench.head_sets import Head
from workbench.heads import HeadScores
from workbench.scores_io import read_scores


def plain(values, **fields) -> HeadScores:
    values = np.array(values, dtype=float)
    return HeadScores(values, "test", **{"kv_heads": values.shape[1], **fields})


def random_scores(seed: int, layers: int = 6, heads: int = 8, unscored: int = 0) -> HeadScores:
    """Scores with many ties, some heads without one."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (layers, heads)) / 5
    values.ravel()[rng.choice(values.size, unscored, replace=False)] = np.nan
    return plain(values)


def provenance(folder) -> dict:
    return json.loads((folder / PROVENANCE).read_text())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("unscored", [0, 5])
def test_a_budget_keeps_as_many_full_heads_as_fit(seed, unscored):
    """Counted entry by entry: each list that is longer by one head is over the budget."""
    scores, rng = random_scores(seed, unscored=unscored), np.random.default_rng(seed)
    context, window = int(rng.integers(200, 5000)), int(rng.integers(10, 150))
    budget = float(rng.uniform(window / context + 0.15, 1))
    how = Cutting(budget=budget, context=context, sink_size=4, recent_size=window - 4, unscored="full")
    found = cut(scores, how)

    def entries(full: int) -> float:
        held = full * context + (scores.values.size - full) * min(context, window)
        return held / (scores.values.size * context)

    full = int(found.full.sum())
    assert entries(full) <= budget + 1e-9 and (full == scores.values.size or entries(full + 1) > budget)
    assert found.facts["kv_share"] == pytest.approx(entries(full)) == kv_share(found.full, how)
    assert found.full[~scores.scored].all() and found.unscored == unscored
    kept = scores.values[found.full & scores.scored]
    left = scores.values[~found.full]
    assert not len(left) or not len(kept) or kept.min() >= left.max()


def test_budgets_at_their_ends():
    scores = plain([[0.1, 0.2], [0.3, 0.4]])
    how = Cutting(budget=1.0, context=100, sink_size=4, recent_size=6)
    assert cut(scores, how).full.all()
    assert not cut(scores, replace(how, budget=0.1)).full.any()
    with pytest.raises(BadInput, match="sinks and windows alone are 0.1 at 100 tokens"):
        cut(scores, replace(how, budget=0.09))
    assert cut(scores, replace(how, recent_size=500)).full.all()
    with pytest.raises(BadInput, match="windows alone are 1"):
        cut(scores, replace(how, recent_size=500, budget=0.9))
    some = plain([[0.1, np.nan], [0.3, np.nan]])
    with pytest.raises(BadInput, match="windows alone are 0.55"):
        cut(some, replace(how, budget=0.5, unscored="full"))


@pytest.mark.parametrize("seed", range(4))
def test_equal_scores_fall_the_same_way_every_time(seed):
    scores = random_scores(seed)
    found = cut(scores, Cutting(sparsity=0.5))
    order = sorted(np.ndindex(scores.values.shape), key=lambda head: (-scores.values[head], head))
    assert {tuple(h) for h in np.argwhere(found.full)} == set(order[:24])
    last = scores.values[order[23]]
    assert found.ties == sum(scores.values[head] == last for head in order[24:]) > 0 and found.margin == 0
    second = np.random.default_rng(seed).random(scores.values.shape)
    again = cut(replace(scores, tiebreak=second), Cutting(sparsity=0.5))
    order = sorted(np.ndindex(scores.values.shape), key=lambda head: (-scores.values[head], -second[head]))
    assert {tuple(h) for h in np.argwhere(again.full)} == set(order[:24]) and again.ties == 0
    assert "second score" in again.rule and "ties by (layer, head)" in found.rule


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("unscored", [0, 6])
def test_balanced_ranks_differ_by_one_at_most(seed, ranks, unscored):
    scores = random_scores(seed, unscored=unscored)
    base = Cutting(sparsity=0.6, unscored="full", ranks=ranks)
    before, after = cut(scores, base), cut(scores, replace(base, balance=True))
    assert sum(before.per_rank) == sum(after.per_rank) == before.full.sum() == after.full.sum()
    width = scores.n_heads // ranks
    naive = [int(after.full[:, r * width : (r + 1) * width].sum()) for r in range(ranks)]
    assert list(after.per_rank) == naive and max(naive) - min(naive) <= 1
    assert after.full[~scores.scored].all()
    for r in range(ranks):  # and every rank keeps its own best
        part = slice(r * width, (r + 1) * width)
        values, full = scores.values[:, part], after.full[:, part]
        known = ~np.isnan(values)
        if (full & known).any() and (~full).any():
            assert values[full & known].min() >= values[~full].max()
    gone = {str(Head(*h)) for h in np.argwhere(before.full & ~after.full)}
    assert {m[1:] for m in after.moved if m[0] == "-"} == gone


@pytest.mark.parametrize("seed", range(4))
def test_a_list_that_must_be_kept_only_grows(seed):
    scores = random_scores(seed)
    base = Cutting(threshold=0.8, ranks=4)
    before, after = cut(scores, base), cut(scores, replace(base, balance=True))
    assert not (before.full & ~after.full).any(), "no head of the list is given up"
    assert set(after.per_rank) == {max(before.per_rank)} and all(m[0] == "+" for m in after.moved)
    assert len(after.moved) == after.full.sum() - before.full.sum()


def test_a_rank_without_heads_enough_is_as_full_as_can_be():
    scores = plain([[np.nan, np.nan, 0.3, 0.2]])
    fixed = ~scores.scored
    found = balanced(scores, scores.top(1), fixed, 2, grow=False)
    assert list(found) == [(0, 2)] and per_rank(fixed, 2) == (2, 0)
    few = plain([[0.5, 0.4, np.nan, np.nan], [0.3, 0.2, 0.1, 0.0]])
    found = balanced(few, few.top(5), np.zeros((2, 4), bool), 2, grow=False)
    assert set(found) == {(0, 0), (0, 1), (1, 0), (1, 2), (1, 3)}


def test_what_a_cut_loses_and_carries_is_named(tmp_path):
    """Groups of two: L0H0 carries its neighbour; L1H3 is a retrieval head that a third of the heads leaves out."""
    scores = plain([[0.9, 0.05, 0.0, 0.0], [0.0, 0.0, 0.02, 0.3]], kv_heads=2)
    export(scores, "duo-attention", tmp_path, sparsity=0.75)
    said = provenance(tmp_path)
    assert said["retrieval_heads_lost"] == {"threshold": 0.1, "heads": ["L1H3"]}
    assert said["carried_by_their_group"] == ["L0H1"] and said["kv_reduction"] == "max over 2 query heads"
    text = " / ".join(lines(said))
    assert "1 (L1H3)" in text and "1 (L0H1)" in text and "margin 0.6" in text and "no ambiguous head" in text
    export(scores, "duo-attention", tmp_path, threshold=0.2)
    assert provenance(tmp_path)["retrieval_heads_lost"] == {"threshold": 0.2, "heads": []}
    export(scores, "mask-mod", tmp_path / "q", sparsity=0.875)
    said = provenance(tmp_path / "q")
    assert said["retrieval_heads_lost"]["heads"] == ["L1H3"] and said["carried_by_their_group"] == []


def test_the_terminal_tells_ties_ranks_and_the_flag(tmp_path):
    """Ties and share of the published gates at 75 %: 46 heads left out equal the last kept one."""
    gates = published.gates("Mistral-7B-Instruct-v0.2")
    export(gates, "duo-attention", tmp_path, sparsity=0.75, ranks=4, context=16384)
    console = Console(width=400)
    with console.capture() as shown:
        for line in lines(provenance(tmp_path), "here"):
            console.print(line, markup=False)
    text = shown.get()
    assert "46 heads left out equal the last one kept, margin 0" in text
    assert "64 full, 192 streaming heads: sparsity 0.75" in text and "full heads by rank: " in text
    assert "--attn_load_dir here --sparsity 0.75 --sink_size 128 --recent_size 256" in text
    assert "kept key-value entries at 16,384 tokens: 26.8%" in text


def test_a_second_score_breaks_ties_of_the_published_gates(tmp_path):
    """With copy scores as second score, 5 of Mistral's 31 copying kv heads stream at half sparsity, never 6 or 7."""
    gates, copies = published.gates("Mistral-7B-Instruct-v0.2"), published.scores("Mistral-7B-v0.2-hf")
    export(gates, "duo-attention", tmp_path, sparsity=0.5, tiebreak=copies)
    full = read_scores(tmp_path).values == 1
    copying = replace(copies, kv_heads=8).to_kv_heads().at_least(0.1)
    assert len(copying) == 31 and sum(not full[head] for head in copying) == 5
    assert provenance(tmp_path)["cut"]["ties"] in (0, 1, 2) and "second score" in provenance(tmp_path)["cut"]["rule"]
