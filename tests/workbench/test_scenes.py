"""Scenes: what is drawn is what is said, sets are disjoint, the habit has its rates, the observer is exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from workbench.errors import BadInput
from workbench.tasks import scene_observer
from workbench.tasks.chair import Caption, judge
from workbench.tasks.scene_objects import (
    ALONE,
    CELLS,
    LEADS,
    OBJECTS,
    PAIRS,
    TOGETHER,
    log_prior,
    textures,
)
from workbench.tasks.scenes import FAINTEST, MIDDLE, SETS, STEPS, caption, scenes, signal


@pytest.fixture(scope="module")
def ordinary():
    return scenes("score", 1500)


@pytest.fixture(scope="module")
def broken():
    return scenes("score", 500, counterfactual=True)


def test_pixels_hold_the_objects_where_they_are_said_to_stand(ordinary):
    """Matched filters over the cells of all scenes: mean contrast as drawn, unit noise elsewhere."""
    bright = textures().reshape(12, -1)
    for s in ordinary[:40]:
        picture = (s.pixels.astype(float) - MIDDLE) / STEPS
        found = np.zeros((CELLS, 12))
        for cell in range(CELLS):
            y, x = 8 * (cell // 4), 8 * (cell % 4)
            found[cell] = picture[y : y + 8, x : x + 8].transpose(2, 0, 1).ravel() @ bright.T / bright.shape[1]
        for word, cell, contrast in zip(s.objects, s.cells, s.contrasts, strict=True):
            assert abs(found[cell, OBJECTS.index(word)] - contrast) < 4.5 / np.sqrt(192)
            assert FAINTEST <= contrast <= 1
        empty = [c for c in range(CELLS) if c not in s.cells]
        assert np.abs(found[empty]).max() < 4.5 / np.sqrt(192)
        np.testing.assert_allclose(signal(s.pixels).reshape(CELLS, -1) @ bright.T / 192, found, atol=1e-12)
        assert abs(signal(s.pixels)[empty].std() - 1) < 0.05


def test_objects_are_told_apart_by_their_textures():
    flat = textures().reshape(12, -1)
    np.testing.assert_allclose([flat.mean(1), (flat**2).mean(1)], [np.zeros(12), np.ones(12)], atol=1e-12)
    alike = flat @ flat.T / flat.shape[1] - np.eye(12)
    assert alike.max() < 0.3


def test_the_habit_has_its_rates(ordinary):
    present = np.array([[word in s.objects for word in OBJECTS] for s in ordinary])
    leader, partner = present[:, ::2], present[:, 1::2]
    assert np.abs(leader.mean(0) - LEADS).max() < 0.05
    assert abs(partner[leader].mean() - TOGETHER) < 0.02 and abs(partner[~leader].mean() - ALONE) < 0.03
    popular = present.mean(0)
    assert popular[0] > 2 * popular[4] > 2 * 1.2 * popular[10], "frequencies are far from even"


def test_counterfactual_scenes_break_the_habit_and_nothing_else(broken):
    for s in broken:
        assert s.missing == tuple(p for leader, p in PAIRS if leader in s.objects) != ()
    rate = np.mean([p in s.objects for s in broken for leader, p in PAIRS if leader not in s.objects])
    assert abs(rate - ALONE) < 0.03


def test_sets_are_disjoint_and_grow(ordinary):
    pictures = [s.pixels.tobytes() for part in SETS for s in scenes(part, 30)]
    pictures += [s.pixels.tobytes() for s in scenes("score", 30, counterfactual=True)]
    pictures += [s.pixels.tobytes() for s in scenes("score", 30, seed=1)]
    assert len(set(pictures)) == len(pictures)
    assert [s.name for s in scenes("score", 5)] == [s.name for s in ordinary[:5]]
    assert (scenes("score", 5)[4].pixels == ordinary[4].pixels).all()
    assert len({s.name for s in ordinary}) == len(ordinary)
    with pytest.raises(BadInput, match="Did you mean 'report'"):
        scenes("reports", 1)


def test_captions_name_exactly_what_is_there(ordinary):
    said = [Caption(s.name, s.caption) for s in ordinary[:50]]
    for j in judge(said, {s.name: s.objects for s in ordinary[:50]}):
        assert j.named == j.objects and len(j.mentions) == len(j.objects) and not j.invented
    assert caption(["car", "fork"]) == "a photo of a car , a fork ."


def test_the_observer_equals_a_sum_over_all_placings():
    """Naively: every set of four of the objects in every order on three of the cells, contrasts on a fine grid."""
    rng = np.random.default_rng(0)
    ratio = rng.normal(0, 2, (2, CELLS, 12))
    cells, kept = (0, 5, 9), (0, 1, 4, 7)
    masked = np.full_like(ratio, -1e9)
    masked[np.ix_(range(2), cells, kept)] = ratio[np.ix_(range(2), cells, kept)]
    sums = scene_observer._placed(np.exp(masked))
    for n in range(4):
        for chosen in itertools.combinations(kept, n):
            ways = [
                np.exp(sum(ratio[:, c, o] for c, o in zip(order, chosen, strict=True)))
                for order in itertools.permutations(cells, n)
            ]
            at = sum(1 << o for o in chosen)
            np.testing.assert_allclose(sums[:, at], np.sum(ways, 0) if n else 1, rtol=1e-10)
    assert sums[:, sum(1 << o for o in kept)].max() == 0, "four objects do not fit into three cells"


def test_the_observers_evidence_is_that_of_an_unknown_contrast(ordinary):
    s = ordinary[0]
    got = scene_observer.log_ratios(s.pixels[None])[0]
    cell = signal(s.pixels)[s.cells[0]]
    contrasts = FAINTEST + (1 - FAINTEST) * (np.arange(4000) + 0.5) / 4000
    for o in (OBJECTS.index(s.objects[0]), 7):
        log = [-((cell - c * textures()[o]) ** 2).sum() / 2 + (cell**2).sum() / 2 for c in contrasts]
        top = max(log)
        np.testing.assert_allclose(got[s.cells[0], o], top + np.log(np.mean(np.exp(np.array(log) - top))), atol=1e-3)


def test_the_observer_is_right_and_calibrated(ordinary, broken):
    """Spec of the scenes: false yes at most .05 and hits at least .97, also where the habit is broken."""
    for shown in (ordinary[:250], broken[:250]):
        belief = scene_observer.probabilities(shown)
        present = np.array([[w in s.objects for w in OBJECTS] for s in shown])
        assert (belief > 0.5)[present].mean() >= 0.97
        assert (belief > 0.5)[~present].mean() <= 0.05
        missing = np.array([[w in s.missing for w in OBJECTS] for s in shown])
        if missing.sum() > 200:
            assert (belief > 0.5)[missing].mean() <= 0.05
    belief = scene_observer.probabilities(ordinary[:250])
    present = np.array([[w in s.objects for w in OBJECTS] for s in ordinary[:250]])
    unsure = (belief > 0.05) & (belief < 0.95)
    assert abs(belief[unsure].mean() - present[unsure].mean()) < 0.1, "beliefs are frequencies where habits hold"


def test_the_prior_sums_to_one():
    sets = scene_observer._sets()
    assert sets.shape == (4096, 12) and len(np.unique(sets, axis=0)) == 4096
    np.testing.assert_allclose(np.exp(log_prior(sets)).sum(), 1)
