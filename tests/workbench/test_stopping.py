"""The stop rule: when it may speak, what cannot move it, and whether its claim holds on the published files."""

from __future__ import annotations

import numpy as np
import published
import pytest

from workbench.bootstrap import jaccard
from workbench.errors import BadInput
from workbench.stopping import decide, look

SHAPE = (2, 8)


def clear(n: int, listed: int = 4, seed: int = 0) -> np.ndarray:
    """Scores that leave no doubt: `listed` heads near .8, the rest near .01."""
    rng = np.random.default_rng(seed)
    level = np.where(np.arange(16) < listed, 0.8, 0.01).reshape(SHAPE)
    return np.clip(level + rng.normal(0, 0.005, (n, *SHAPE)), 0, 1)


def needles(n: int, distinct: int) -> tuple[str, ...]:
    return tuple(f"needle {i % distinct}" for i in range(n))


def test_stops_at_the_second_look_when_nothing_is_in_doubt():
    first = decide(clear(19), needles(19, 19), 0.1)
    assert not first.stop and first.n_samples == 10 and "2 looks in a row" in first.reason
    second = decide(clear(20), needles(20, 20), 0.1)
    assert second.stop and (second.n_samples, second.n_groups, second.n_heads, second.lower) == (20, 20, 4, 1.0)


@pytest.mark.parametrize("n", [20, 21, 39, 40, 300])
def test_what_lies_behind_the_stop_cannot_move_it(n):
    """Batch size and resuming only decide how much is computed beyond the prefix."""
    samples = np.concatenate([clear(20), np.random.default_rng(1).random((280, *SHAPE))])
    assert decide(samples[:n], needles(n, n), 0.1) == decide(samples[:20], needles(20, 20), 0.1)


@pytest.mark.parametrize(
    ("samples", "groups", "words"),
    [
        (clear(9), needles(9, 9), "fewer than 10 samples"),
        (clear(40), needles(40, 4), "4 distinct needles, at least 5"),
        (clear(40, listed=2), needles(40, 40), "2 heads at 0.1, at least 3"),
        (clear(0), (), "fewer than 10 samples"),
    ],
)
def test_too_little_to_speak(samples, groups, words):
    found = decide(samples, groups, 0.1)
    assert not found.stop and words in found.reason


def test_looks_can_be_tied_to_blocks_but_never_below_ten_samples():
    found = decide(clear(40), needles(40, 40), 0.1, looks=(5, 15, 25))
    assert found.stop and found.n_samples == 25


def test_two_looks_must_agree_in_a_row():
    rng = np.random.default_rng(0)
    doubt = rng.choice([0.0, 0.2], (20, *SHAPE))  # every head sits on the threshold
    samples = np.concatenate([clear(10), doubt, clear(130)])
    stops = [look(samples[:n], needles(n, n), 0.1, 0.95).stop for n in (10, 20, 40, 80, 160)]
    assert stops == [True, False, False, True, True]
    assert not decide(samples[:80], needles(80, 80), 0.1).stop
    assert decide(samples, needles(160, 160), 0.1).n_samples == 160


def test_needles_are_resampled_not_rows():
    """Six needles, each with its own heads, asked ten times: rows look sure, needles are not."""
    of_needle = np.random.default_rng(0).choice([0.0, 0.22], (6, *SHAPE))
    samples = np.concatenate([of_needle] * 10)
    by_needle = look(samples, needles(60, 6), 0.1, 0.95)
    by_row = look(samples, needles(60, 60), 0.1, 0.95)
    assert by_needle.lower < by_row.lower - 0.1


def test_unscored_heads_do_not_count():
    samples = clear(40)
    samples[:, 1, 5:] = np.nan
    assert decide(samples, needles(40, 40), 0.1).stop


@pytest.mark.parametrize("until", [0.0, -1, 1.01])
def test_until_must_be_an_agreement(until):
    with pytest.raises(BadInput, match="until"):
        decide(clear(20), None, 0.1, until=until)


def test_groups_must_fit():
    with pytest.raises(BadInput, match="3 groups for 20 samples"):
        decide(clear(20), ("a", "b", "c"), 0.1)


def claims(name: str, until: float, replays: int, sharp: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """True agreement with the whole file, and samples used, of each replay that stopped early: that is a claim.

    The files do not name their needles, so each sample is its own group; every replay is another order of them.
    sharp: without the heads near the threshold (.07 to .14), as a model whose heads copy or do not.
    """
    scores = published.scores(name)
    samples, reached, used = scores.per_sample, [], []
    if sharp:
        samples = np.where((scores.values > 0.07) & (scores.values < 0.14), np.nan, samples)
    known = ~np.isnan(samples[0])
    whole = scores.values[known] >= 0.1
    for seed in range(replays):
        order = np.random.default_rng(seed).permutation(scores.n)
        found = decide(samples[order], None, 0.1, until)
        if found.stop:
            part = samples[order[: found.n_samples]].mean(0)[known] >= 0.1
            reached.append(float(jaccard(part, whole)))
            used.append(found.n_samples)
    return np.array(reached), np.array(used)


@pytest.mark.parametrize("name", published.FILES)
def test_claims_hold_in_a_few_replays(name):
    """At .80 every replay stops early; at .95 none does on these files, and all do where heads are clear-cut."""
    reached, used = claims(name, 0.8, 30)
    assert len(reached) == 30 and (reached >= 0.8).mean() >= 0.9
    assert used.max() <= 320
    assert len(claims(name, 0.95, 10)[0]) == 0
    reached, used = claims(name, 0.95, 30, sharp=True)
    assert len(reached) == 30 and (reached >= 0.95).mean() >= 0.9
    assert used.mean() <= 120


ENOUGH_CLAIMS = 30  # below this a share of 90 % cannot be told from chance (llama-2 at .90: 4 of 5 claims held)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("until", "sharp"), [(0.8, False), (0.85, False), (0.9, False), (0.95, False), (0.9, True), (0.95, True)]
)
@pytest.mark.parametrize("name", published.FILES)
def test_claims_hold_in_200_replays(name, until, sharp):
    """False claims in at most 10 % of the replays, and of the claims where they are many enough to say so."""
    reached, _ = claims(name, until, 200, sharp)
    false = int((reached < until).sum())
    assert false <= 0.1 * 200
    assert len(reached) < ENOUGH_CLAIMS or false <= 0.1 * len(reached)
    if sharp or until == 0.8:
        assert len(reached) >= 150


def test_a_mean_in_place_of_the_low_quantile_would_overclaim():
    """Negative control: stopping on the expected agreement itself breaks the claim that the rule keeps."""
    scores, kept = published.scores("Qwen1.5-14B"), []
    whole = scores.values >= 0.1
    for seed in range(40):
        samples = scores.per_sample[np.random.default_rng(seed).permutation(scores.n)[:20]]
        part = type(scores).from_samples(samples, "part")
        if part.stability(0.1)[0] >= 0.8:
            kept.append(float(jaccard((part.values >= 0.1).ravel(), whole.ravel())) >= 0.8)
    assert len(kept) >= 20 and np.mean(kept) < 0.85
