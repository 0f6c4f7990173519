"""Control lists: distinct, matched by layer, disjoint from the list, enumerated where few exist; their p-values."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls import matched_lists, p_value, random_lists

ALL = [(layer, head) for layer in range(3) for head in range(8)]


@given(st.sets(st.sampled_from(ALL), min_size=1, max_size=8), st.integers(0, 99))
def test_matched_lists_have_the_lists_layers_and_none_of_its_heads(chosen, seed):
    chosen = tuple(sorted(chosen))
    found, every = matched_lists(chosen, ALL, 12, seed)
    counts = Counter(layer for layer, _ in chosen)
    if any(n > 4 for n in counts.values()):
        assert found == [] and not every
        return
    assert len(set(found)) == len(found) and (every or len(found) == 12)
    for heads in found:
        assert Counter(layer for layer, _ in heads) == counts and not set(heads) & set(chosen)
    assert found == matched_lists(chosen, ALL, 12, seed)[0]


def test_few_matched_lists_are_enumerated():
    found, every = matched_lists(((1, 0), (1, 1)), [h for h in ALL if h < (1, 5)], 20, 0)
    assert every and set(found) == {((1, 2), (1, 3)), ((1, 2), (1, 4)), ((1, 3), (1, 4))}


def test_heads_that_were_never_scored_are_in_no_control():
    usable = [h for h in ALL if h != (0, 7)]
    matched, _ = matched_lists(((0, 1),), usable, 50, 3)
    free = random_lists(((0, 1),), usable, 200, 3)
    assert all((0, 7) not in heads for heads in (*matched, *free))
    assert {h for heads in free for h in heads} == set(usable) - {(0, 1)}


def test_no_random_list_where_too_few_heads_are_left():
    assert random_lists(tuple(ALL[:20]), ALL, 5, 0) == []


@pytest.mark.parametrize(("harm", "expected"), [(3.0, 1 / 5), (2.0, 2 / 5), (0.0, 5 / 5)])
def test_p_counts_draws_at_least_as_harmful(harm, expected):
    assert p_value(harm, [0.0, 1.0, 1.5, 2.0]) == pytest.approx(expected)
