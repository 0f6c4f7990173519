"""When a head is said to need its sink: against its controls, over heads that lose nothing, and with too few texts."""

from __future__ import annotations

import numpy as np
from workbench_analyses.sinks import causal
from workbench_analyses.sinks.found import Parked

from workbench.heads import Head


def checks_of(own, control):
    """Checks of as many heads as `own` has rows, from losses [heads, texts] of blocking the key; nothing else changes."""

    def ops(row):
        out = np.zeros((len(row), len(causal.EVERY)))
        out[:, causal.EVERY.index("key blocked")] = row
        return out

    parks = [Parked(Head(0, i), 1, True, 0.9, 1.0) for i in range(len(own))]
    return causal.with_differences(
        [causal.Check(p, (), ops(a), ops(a), ops(b), ops(b), 0.0) for p, a, b in zip(parks, own, control, strict=True)]
    )


def test_a_change_that_any_key_costs_is_no_need_and_few_texts_show_none():
    rng, n = np.random.default_rng(), 8
    noise = rng.normal(0, 0.01, (6, n))
    calm = rng.normal(0, 0.002, (6, n))
    needed, park, unknown = True, False, None
    assert {c.needed("loss") for c in checks_of(0.3 + noise, calm)} == {needed}
    assert {c.needed("loss") for c in checks_of(calm, calm)} == {park}
    equal = checks_of(0.3 + noise, 0.3 + noise[::-1])
    assert {c.needed("loss") for c in equal} == {unknown}
    assert equal[0].verdict("loss") == "parked, need not settled"
    alone = checks_of(0.3 + noise, np.full((6, n), np.nan))
    assert {c.needed("loss") for c in alone} == {needed} and alone[0].beyond["key blocked", "loss"].n == n
    few = checks_of(0.3 + noise[:, :2], calm[:, :2])
    assert {c.needed("loss") for c in few} == {unknown} and few[0].beyond["key blocked", "loss"].p == 0.25


def test_heads_that_lose_nothing_are_seldom_called_needed():
    """Noise larger than the threshold in every head: corrected over twelve heads, one scan in twenty may err."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(60):
        own, control = rng.normal(0, 0.15, (2, 12, 8))
        wrong += any(c.needed("loss") for c in checks_of(own, control))
    assert wrong <= 8  # binomial, 60 and .05: 99.6 % lie below
