"""Scores of visual heads on effects, maps and words made by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from flooding import entropy_by_hand

from workbench import visual
from workbench.errors import BadInput


def test_a_contrast_is_the_difference_of_means_and_its_interval_resamples_pictures():
    rng = np.random.default_rng(0)
    n, pictures = 400, np.repeat(np.arange(100), 4)
    invented = rng.random(n) < 0.3
    lift = np.array([[0.0, 0.5], [1.0, -0.5]])
    effects = rng.normal(size=(n, 2, 2)) + 3 + rng.normal(size=(100, 1, 1))[pictures] + invented[:, None, None] * lift
    scores = visual.causal_contrast(effects, invented, [f"p{i}" for i in pictures])
    np.testing.assert_allclose(scores.values, effects[invented].mean(0) - effects[~invented].mean(0), atol=1e-9)
    low, high = scores.interval()
    draws = []
    for _ in range(2000):
        take = np.concatenate([np.flatnonzero(pictures == p) for p in rng.integers(100, size=100)])
        one, kind = effects[take], invented[take]
        draws.append(one[kind].mean(0) - one[~kind].mean(0))
    direct = np.quantile(draws, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(high - low, direct[1] - direct[0], rtol=0.12)
    assert low[1, 0] > 0 > high[1, 1]
    low, high = scores.interval(0.999)
    assert (low < lift).all() and (lift < high).all()
    shuffled = visual.causal_contrast(effects, rng.permutation(invented), [f"p{i}" for i in pictures])
    low, high = shuffled.interval(0.999)
    assert (low < 0).all() and (high > 0).all(), "labels that say nothing give no contrast"
    with pytest.raises(BadInput, match="0 of 400 words are invented"):
        visual.causal_contrast(effects, np.zeros(n, dtype=bool), ["p"] * n)


def test_entropy_of_maps_made_by_hand():
    def of(*cells: tuple[int, int], side: int = 6, weight: float = 0.1) -> float:
        look = np.zeros((side, side))
        for cell in cells:
            look[cell] += weight
        return visual.spatial_entropy(look)

    assert of((1, 1)) == of((1, 1), (1, 2), (2, 2)) == 0, "one place"
    assert of((1, 1), (2, 2)) == 0, "neighbours at a corner are neighbours"
    assert of((0, 0), (5, 5)) == pytest.approx(log(2))
    assert of((0, 0), (0, 5), (5, 0), (5, 5)) == pytest.approx(log(4))
    assert visual.spatial_entropy(np.full((6, 6), 0.02)) == pytest.approx(log(36)), "an even map"
    rng = np.random.default_rng(1)
    maps = [rng.dirichlet(np.full(49, a)).reshape(7, 7) for a in (0.05, 0.3, 1.0, 5.0) for _ in range(20)]
    for look in maps:
        assert visual.spatial_entropy(look) == pytest.approx(entropy_by_hand(look), abs=1e-9)


def test_the_elbow_of_sorted_sums():
    def above(*sums: float) -> list[int]:
        return np.flatnonzero(visual.elbow(np.array(sums))).tolist()

    assert above(0.01, 0.9, 0.0, 0.8, 0.02, 0.03) == [1, 3]
    assert above(0.9, 0.9, 0.9, 0.9, 0.85, 0.0) == [0, 1, 2, 3, 4]
    assert above(0.3, 0.2, 0.1) == [0, 1, 2] and above(0.5, 0.5) == [0, 1], "a straight curve has no elbow"


class Pieces:
    """Tokens as pieces of words, as byte-pair encodings have them."""

    def decode(self, ids, skip_special_tokens, clean_up_tokenization_spaces):
        assert not clean_up_tokenization_spaces
        return "".join(self.table[i] for i in ids if not (skip_special_tokens and self.table[i].startswith("<")))

    table = ("<s>", "A", " ca", "r", ",", " two", " fi", "re", " hydrant", "s", " and", " a", " wine", " glass", ".")


def test_words_are_found_at_the_token_that_begins_them():
    ids = list(range(15))
    found = visual.spoken(Pieces(), ids, ["car", "wine glass"], row=4)
    assert [(w.row, w.step, w.object, w.invented) for w in found] == [
        (4, 2, "car", False), (4, 6, "fire hydrant", True), (4, 12, "wine glass", False),
    ]  # fmt: skip
    assert visual.spoken(Pieces(), [1, 14], ["car"]) == []
    with pytest.raises(BadInput, match="'unicorn' is no word"):
        visual.spoken(Pieces(), ids, ["unicorn"])
