"""Reuse of circuits, figure by figure: nulls against enumeration, intervals and ceilings against known truths."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file
from sample_circuits import COLOURS, IOI, circuit_of, two_circuits
from scipy import stats
from workbench_analyses.circuits.entering import entering
from workbench_analyses.circuits.reuse_chance import layer_shuffles, matched_overlap, overlap_chances, overlap_of
from workbench_analyses.circuits.reuse_resampled import ceiling, intervals
from workbench_analyses.circuits.reuse_sides import COLUMNS, Effects, Side, entered, read_side
from workbench_analyses.circuits.reuse_stages import ABLATED, ABSENT, confusion, edge_reuse, spearman, stage_reuse
from workbench_analyses.circuits.reuse_sweep import heads_at, sweep

from workbench.errors import BadInput


def draw(rng, profile, heads):
    return {(layer, int(h)) for layer, n in enumerate(profile) for h in rng.choice(heads, n, False)}


def test_chance_is_that_of_all_sets_with_as_many_heads_in_each_layer():
    heads, a, b = 4, (2, 0, 1), (1, 3, 2)
    sets = [
        list(
            itertools.product(*(itertools.combinations([(i, j) for j in range(heads)], n) for i, n in enumerate(side)))
        )
        for side in (a, b)
    ]
    sets = [[set(itertools.chain(*one)) for one in side] for side in sets]
    counts = np.bincount([len(x & y) for x in sets[0] for y in sets[1]], minlength=3)
    np.testing.assert_allclose(overlap_chances(heads, a, b), counts / counts.sum(), atol=1e-12)
    one = overlap_of(sets[0][0], sets[1][0], (3, heads))
    assert one.shared == ((0, 0), (2, 0)) and one.n == 2 and one.share == 2 / 3 and one.jaccard == 2 / 7
    assert one.p == one.least == pytest.approx(counts[2] / counts.sum())
    assert one.expected == pytest.approx((counts @ np.arange(3)) / counts.sum())
    staged = matched_overlap({("x", (0, 0)), ("y", (0, 1))}, {("x", (0, 0)), ("y", (0, 2)), ("x", (0, 1))}, (3, heads))
    assert staged.n == 1 and staged.expected == pytest.approx(2 / 4 + 1 / 4) and staged.share == 0.5


def test_the_published_overlap_of_gpt2_medium_is_no_chance_and_that_of_greater_than_is():
    rng = np.random.default_rng(0)
    every = [(i, j) for i in range(24) for j in range(16)]
    a = {every[int(i)] for i in rng.choice(384, 32, False)}
    seven = {h for h in every if h not in a}
    b = set(sorted(a)[:25]) | set(sorted(seven)[:7])
    one = overlap_of(a, b, (24, 16))
    assert one.n == 25 and one.share == 25 / 32 and one.p_plain == pytest.approx(8e-27, rel=0.2)
    few = overlap_of(set(sorted(a)[:3]) | set(sorted(seven)[:15]), a, (24, 16))
    assert few.p_plain == pytest.approx(0.18, abs=0.01)


def test_random_circuits_have_p_spread_evenly():
    rng, shape = np.random.default_rng(1), (6, 16)
    profiles = [[4, 6, 0, 5, 7, 3], [2, 5, 4, 6, 8, 6]]
    p, even = [], []
    for _ in range(800):
        one = overlap_of(*(draw(rng, profile, shape[1]) for profile in profiles), shape)
        chances = overlap_chances(shape[1], *profiles)
        p.append(one.p)
        even.append(one.p - rng.random() * chances[one.n])  # p is discrete: spread over the step that it stands for
    assert stats.kstest(even, "uniform").pvalue > 0.01
    assert all(np.mean(np.array(p) <= level) <= level + 0.025 for level in (0.05, 0.1, 0.5))
    shared = draw(rng, profiles[0], 16)
    same = overlap_of(shared, shared, shape)
    assert same.p == pytest.approx(same.least) and same.p < 1e-12


def test_a_layer_explains_what_the_plain_tail_takes_for_reuse():
    """Both circuits hold all of layer 2 but one head: the plain tail calls it reuse, layers say that it must be so."""
    a, b = ({(2, j) for j in range(8) if j != gone} for gone in (0, 1))
    one = overlap_of(a, b, (12, 8))
    assert one.p_plain < 1e-6 and one.p == pytest.approx(1.0) and one.expected > 6


def noisy(shares, n, noise, rng, gap=-7.0):
    """Effects with these shares of the gap on average, and gaps that vary."""
    gaps = gap * (1 + 0.2 * rng.standard_normal(n))
    return shares * gaps[:, None, None] + noise * abs(gap) * rng.standard_normal((n, *shares.shape)), gaps


def side_of(circuit, shares, n=60, noise=0.02, seed=0, ablation=None):
    """A side whose stages have these shares, {stage: map}."""
    rng = np.random.default_rng(seed)
    gaps = noisy(next(iter(shares.values())), n, noise, rng)[1]
    effects = {
        name: share * gaps[:, None, None] + noise * 7 * rng.standard_normal((n, *share.shape))
        for name, share in shares.items()
    }
    ablated = None if ablation is None else ablation * gaps[:, None, None]
    return Side(circuit, Effects(effects, -gaps, np.zeros_like(gaps), ablated))


def shares_of(circuit):
    out = {s.name: np.zeros((circuit.n_layers, circuit.n_heads)) for s in circuit.stages}
    for one in circuit.heads:
        out[one.stage][one.head] = one.share
    return out


def test_the_closed_bound_is_that_of_the_naive_ratio_and_agrees_with_the_trace():
    rng = np.random.default_rng(2)
    shares = rng.choice([0.0, 0.01, 0.03, 0.1, -0.2], (4, 5))
    effects, gaps = noisy(shares, 40, 0.03, rng)
    weights = np.concatenate([np.ones((1, 40)), rng.multinomial(40, np.full(40, 1 / 40), size=20)]).astype(float)
    got = entered(effects, gaps, weights, 0.02)
    for w, found in zip(weights.astype(int), got, strict=True):
        rows = np.repeat(np.arange(40), w)
        for at in np.ndindex(4, 5):
            e, g = effects[rows][:, *at], gaps[rows]
            share = e.sum() / g.sum()
            error = np.std(e - share * g, ddof=1) * np.sqrt(len(rows)) / abs(g.sum())
            assert found[at] == (abs(share) - 1.96 * error > 0.02)
    rule = entering(effects, gaps, 0).at(0.02)
    assert (rule == got[0]).mean() >= 0.9 and got[0][np.abs(shares) >= 0.1].all() and not got[0][shares == 0].any()


def test_one_circuit_traced_twice_reaches_its_ceiling_and_two_unlike_ones_stay_at_chance():
    a, b = two_circuits()
    one, again = side_of(a, shares_of(a), seed=1), side_of(a, shares_of(a), seed=2)
    same = ceiling(one, again, "patching", 20, 0)
    assert same.reuse == pytest.approx(1, abs=0.05) and min(same.within) > 0.9 and same.chance < 0.2
    moved = {name: np.roll(share, 5, axis=1) for name, share in shares_of(a).items()}
    other = ceiling(one, side_of(a, moved, seed=3), "patching", 20, 0)
    assert abs(other.reuse) < 0.3 and other.between <= other.chance + 0.2
    part = ceiling(one, side_of(b, shares_of(b), seed=3), "patching", 20, 0)
    assert other.reuse < part.reuse < same.reuse
    nothing = {name: np.full_like(share, 0.005) for name, share in shares_of(a).items()}
    vague = ceiling(*(side_of(a, nothing, noise=0.2, seed=seed) for seed in (4, 5)), "patching", 20, 0)
    assert vague.reuse is None and vague.room < 0.1, "circuits that do not agree with themselves"
    assert ceiling(Side(a), Side(b), "patching", 20, 0) is None and intervals(one, Side(b), "union", 50, 0) is None
    assert ceiling(one, again, "ablation", 20, 0) is None, "no ablation was kept"


def found_in(side):
    """The circuit of all prompts."""
    return {(int(i), int(j)) for i, j in np.argwhere(side.members("patching", np.ones((1, len(side.effects.gaps))))[0])}


@pytest.mark.parametrize(("scale", "noise"), [(0.12, 0.1), (0.3, 0.3), (1, 1)])
def test_intervals_cover_what_many_samples_of_prompts_give(scale, noise):
    """Heads near the threshold, and noise that lets in others: the mean over fresh prompts is covered as often as said."""
    circuits = two_circuits()
    shares = [{k: scale * s for k, s in shares_of(c).items()} for c in circuits]

    def sample(seed, n=50):
        return [side_of(c, s, n, noise, 2 * seed + i) for i, (c, s) in enumerate(zip(circuits, shares, strict=True))]

    found = [overlap_of(*map(found_in, sample(seed)), (12, 12)) for seed in range(100)]
    means = np.mean([(one.n, one.share, one.jaccard) for one in found], axis=0)
    spans = [intervals(*sample(seed), "patching", 150, 0) for seed in range(25)]
    covered = [
        [low <= m <= high for (low, high), m in zip((s.shared, s.share, s.jaccard), means, strict=True)] for s in spans
    ]
    assert (np.mean(covered, axis=0) >= 0.9).all(), np.mean(covered, axis=0)
    one, other = sample(0)
    naive = [
        s.members("patching", np.random.default_rng(0).multinomial(50, np.full(50, 0.02), 150) * 1.0)
        for s in (one, other)
    ]
    assert naive[0].sum((1, 2)).mean() > found[0].a, "with one error for one, resamples hold more heads than the sample"


def test_ablation_is_a_share_of_the_difference_of_its_own_prompts():
    a = two_circuits()[0]
    side = side_of(a, shares_of(a), noise=0.0, ablation=np.full((12, 12), 0.03))
    every = np.ones((1, 60))
    assert side.members("ablation", every).all() and not side.members("ablation", every, tau=0.04).any()
    larger = replace(side.effects, unablated=2 * side.effects.clean)  # the same effects are half as large a share
    assert not Side(a, larger).members("ablation", every).any()
    assert (Side(a, larger).members("union", every) == side.members("patching", every)).all()


def test_the_sweep_takes_the_rule_of_the_trace_and_knows_nothing_below_it_without_effects():
    a, b = two_circuits()
    sides = [side_of(c, shares_of(c), seed=i) for i, c in enumerate((a, b))]
    points = sweep(*sides, 100, 0)
    assert [p.tau for p in points] == [0.005, 0.01, 0.02, 0.05, 0.1]
    for side, c in zip(sides, (a, b), strict=True):
        assert heads_at(side, 0.02) == set(c.carrying)
        assert heads_at(side, 0.1) <= heads_at(side, 0.02) <= heads_at(side, 0.005)
    assert points[2].overlap.n == len(set(a.carrying) & set(b.carrying)) and points[2].intervals.shared[1] >= 5
    bare = sweep(Side(a), Side(b), 100, 0)
    assert [p.tau for p in bare] == [0.02, 0.05, 0.1] and bare[0].intervals is None
    assert heads_at(Side(a), 0.1) == {h.head for h in a.heads if abs(h.share) - 0.04 > 0.1}


def test_ranks_correlate_as_scipy_says_and_layers_alone_prove_nothing():
    rng = np.random.default_rng(3)
    shuffles = layer_shuffles((5, 6), 400, 0)
    assert shuffles.shape == (400, 5, 6) and (np.sort(shuffles, -1) == np.arange(6)).all()
    p = []
    for _ in range(60):
        level = np.arange(5)[:, None] * 2.0  # layers differ in both: a large correlation without any reuse
        x, y = (np.round(level + rng.random((5, 6)), 1) for _ in range(2))
        rho, one = spearman(x, y, shuffles)
        assert rho == pytest.approx(stats.spearmanr(x.ravel(), y.ravel()).statistic) and rho > 0.8
        p.append(one)
    assert stats.kstest(p, "uniform").pvalue > 0.005
    x = rng.random((5, 6))
    assert spearman(x, x**3, shuffles) == (pytest.approx(1), 1 / 401)
    assert spearman(x, np.zeros((5, 6)), shuffles)[1] == 1.0


def test_stages_are_aligned_by_depth_and_channel():
    a, b = two_circuits()
    first, second, third, whole = stage_reuse(Side(a), Side(b), 200, 0)
    assert [s.name for s in (first, second, third, whole)] == ["1 logits", "2 q", "3 v", "all stages"]
    assert third.labels == ("S2", "object") and set(first.overlap.shared) == {(9, 9), (10, 0)}
    assert whole.overlap.n == len(set(a.carrying) & set(b.carrying))
    x, y = Side(a).sizes((1, "resid")), Side(b).sizes((1, "resid"))
    assert first.weighted == pytest.approx(np.minimum(x, y).sum() / np.maximum(x, y).sum())
    assert x[10, 7] > 0, "a head that works against the answer is as large as one that works for it"
    kept = side_of(a, shares_of(a), noise=0.0)
    np.testing.assert_allclose(kept.sizes((2, "q")), Side(a).sizes((2, "q")), atol=1e-9)


def test_roles_are_set_against_one_another():
    a, b = two_circuits()
    found = confusion(a, b)
    assert found["mover", "mover"] == ((9, 9), (10, 0)) and found["inhibition", "induction"] == ((8, 6),)
    assert found[ABLATED, ABLATED] == ((0, 10),) and (11, 10) in found["negative mover", ABSENT]
    assert sum(map(len, found.values())) == len({*a.nodes, *b.nodes})


def test_edges_are_shared_without_labels_and_chance_keeps_the_form():
    a, b = two_circuits()
    one = edge_reuse(a, b, 2000, 0)
    pairs = [{(e.edge.sender, e.edge.receiver, e.edge.channel) for e in c.edges} for c in (a, b)]
    assert (one.a, one.b) == tuple(map(len, pairs)) and set(one.shared) == pairs[0] & pairs[1] and len(one.shared) > 3
    assert one.labelled < len(one.shared) and one.p < 0.01 and one.least == 1 / 2001
    order, mean = layer_shuffles((12, 12), 2000, 0), 0

    def dealt(head, deal):
        return head and (head[0], int(deal[head]))

    for deal in order[:400]:
        mean += len(pairs[0] & {(dealt(s, deal), dealt(r, deal), c) for s, r, c in pairs[1]}) / 400
    assert one.expected == pytest.approx(mean, rel=0.25)
    rng, p = np.random.default_rng(4), []
    for seed in range(40):
        deal = layer_shuffles((12, 12), 1, 100 + seed)[0]
        moved = [
            replace(e, edge=e.edge._replace(sender=dealt(e.edge.sender, deal), receiver=dealt(e.edge.receiver, deal)))
            for e in b.edges
        ]
        p.append(edge_reuse(a, replace(b, edges=tuple(moved)), 200, int(rng.integers(1 << 30))).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.15 and np.mean(p) > 0.3
    assert edge_reuse(circuit_of(IOI, edges=False), b, 200, 0) is None


def test_runs_are_read_with_their_effects_and_misfits_are_named(tmp_path):
    a = circuit_of(COLOURS, "colored-objects", needed=[(0, 10)])
    a.save(tmp_path / "circuit.json")
    assert read_side(tmp_path).effects is None and read_side(tmp_path / "circuit.json").circuit == a
    rng = np.random.default_rng(5)
    held = {f"effect/{s.name}": rng.random((7, 12, 12)) for s in a.stages}
    held |= {
        "difference/clean": rng.random(7),
        "difference/corrupted": -rng.random(7),
        "ablation": rng.random((7, 12, 12)),
    }
    save_file(held, tmp_path / "effects.safetensors")
    side = read_side(tmp_path)
    np.testing.assert_array_equal(side.effects.gaps, held["difference/corrupted"] - held["difference/clean"])
    assert side.members("union", np.ones((2, 7))).shape == (2, 12, 12) and set(side.effects.stages) == set(side.keys)
    assert [side.heads(c) for c in COLUMNS] == [set(a.carrying), set(a.needed), set(a.nodes)]
    for spoil, said in (
        ({"ablation": rng.random((7, 12, 11))}, "ablation is"),
        (None, "cannot be read"),
        ({}, "lacks"),
    ):
        if spoil is None:
            (tmp_path / "effects.safetensors").write_bytes(b"{")
        else:
            save_file({**held, **spoil} if spoil else {"x": rng.random(3)}, tmp_path / "effects.safetensors")
        with pytest.raises(BadInput, match=said) as caught:
            read_side(tmp_path)
        assert "\n" not in str(caught.value)
