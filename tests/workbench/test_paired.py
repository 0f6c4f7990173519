"""Paired tests against enumeration and against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from workbench.paired import discordant, flips_for, least_discordant, mcnemar_p, rises_p, sign_flip_p


def test_sign_flips_agree_with_all_of_them():
    changes = np.random.default_rng().normal(0.4, 1, (5, 10))
    signs = np.array(list(itertools.product((-1, 1), repeat=10))).T
    exact = (np.abs(changes @ signs) >= np.abs(changes.sum(1))[:, None] - 1e-12).mean(1)
    assert np.allclose(sign_flip_p(changes, 0, 40_000), exact, atol=0.012)  # 4 standard errors of 40,000 tosses


@pytest.mark.parametrize("n", [3, 9, 40])
def test_a_rise_is_tested_on_one_side(n):
    changes = np.random.default_rng().normal(0.3, 1, n)
    wanted = stats.permutation_test(
        (changes,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        n_resamples=9999,
        rng=np.random.default_rng(0),
    ).pvalue
    assert rises_p(changes) == pytest.approx(wanted, abs=1e-12 if n < 12 else 0.03)
    assert rises_p(np.abs(changes)) == pytest.approx(max(0.5**n, 1e-4)) and rises_p(-np.abs(changes)) == 1
    assert rises_p(np.zeros(n)) == rises_p(np.zeros(0)) == 1


def test_an_arm_without_change_has_p_one_and_one_that_always_gains_the_least():
    p = sign_flip_p(np.stack([np.zeros(30), np.full(30, 0.1)]), 0, 999)
    assert p[0] == 1 and p[1] == pytest.approx(1 / 1000)


def test_under_the_null_p_is_uniform():
    changes = np.random.default_rng(1).normal(0, 1, (400, 24))
    assert stats.kstest(sign_flip_p(changes, 2, 1999), "uniform").pvalue > 0.01


def test_mcnemar_is_the_binomial_test():
    mended, spoiled = np.array([0, 9, 3, 15, 4]), np.array([0, 1, 3, 0, 11])
    wanted = [1.0] + [stats.binomtest(int(a), int(a + b)).pvalue for a, b in zip(mended[1:], spoiled[1:], strict=True)]
    assert np.allclose(mcnemar_p(mended, spoiled), wanted)


def test_what_n_can_show():
    for arms in (1, 24, 1024):
        least = least_discordant(arms)
        assert mcnemar_p(np.array([least]), np.array([0]))[0] <= 0.05 / arms
        assert mcnemar_p(np.array([least - 1]), np.array([0]))[0] > 0.05 / arms
        assert 1 / (1 + flips_for(arms)) < 0.05 / arms


def test_discordant_samples_are_counted_by_direction():
    before = np.array([True, True, False, False])
    after = np.array([[True, False, True, True], [True, True, False, False]])
    mended, spoiled = discordant(before, after)
    assert mended.tolist() == [2, 0] and spoiled.tolist() == [1, 0]
