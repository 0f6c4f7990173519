"""Policies that merge what they evict: sums of scores and weights on whole patterns say the same, float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plain_policies import (  # noqa: F401
    GROUP,
    KV,
    LAYERS,
    a_model,
    best,
    check,
    plain_scores,
    setting,
    simulate,
    some_texts,
    with_scores,
)

from workbench.policies import named
from workbench.policies.d2o import allotted
from workbench.policies.merging import merged
from workbench.policies.scheme import Seen
from workbench.simulation.costs import costs


def mixture(keys, kept, weigh, least):
    """Row j of [n, n] says of which entries the kept one j is a mean; rows of evicted ones are zero."""
    n = len(keys)
    out, gone = torch.zeros(n, n, dtype=torch.float64), [j for j in range(n) if j not in kept]
    for j in kept:
        out[j, j] = weigh(1.0)
    unit = keys.double() / keys.double().norm(dim=-1, keepdim=True)
    may = [j for j in kept if j < n - 1]  # the last token is decoded again, unmerged: nothing joins it
    nearest = {e: max((float(unit[e] @ unit[j]), j) for j in may) for e in gone}
    bar = np.mean([cosine for cosine, _ in nearest.values()]) if least is None else least
    for e, (cosine, j) in nearest.items():
        if cosine >= bar:
            out[j, e] = weigh(cosine)
    return out / out.sum(1, keepdim=True).clamp_min(1e-300)


def merged_run(model, case, mixtures):
    """Decoded rows see the mixtures in the place of the prompt: means of keys are means of scores."""
    n, start = len(case.tokens) - 1, case.start
    whole = {}
    for key, mix in mixtures.items():  # entries from the first decoded token on are decoded anew
        whole[key] = torch.eye(n, dtype=torch.float64)
        whole[key][:start, :start] = mix[:start, :start]

    def change(layer, scores):
        for h in range(scores.shape[0]):
            mix = whole[layer, h // GROUP]
            new = scores[h, start:].masked_fill(scores[h, start:] < -1e30, 0.0) @ mix.T
            gone = (mix.sum(1) == 0) | (torch.arange(n) > torch.arange(start, n)[:, None])
            scores[h, start:] = new.masked_fill(gone, float("-inf"))
        return scores

    def change_pattern(layer, pattern):
        for h in range(pattern.shape[0]):
            pattern[h, start:] = pattern[h, start:] @ whole[layer, h // GROUP]
        return pattern

    return with_scores(model, case.tokens[:n], change, change_pattern)[n - case.scored :]


def d2o_budgets(received, mean, most):
    """Entries by layer: proportional to e^-spread, by bisection of the factor, none above what there is."""
    weights = []
    for layer in range(LAYERS):
        v = received[layer].var(-1)
        weights.append(math.exp(-float(((v - v.min()) / (v.max() - v.min() + 1e-6)).mean())))
    low, high = 0.0, 1e9
    for _ in range(200):
        factor = (low + high) / 2
        low, high = (factor, high) if sum(min(most, factor * w) for w in weights) < mean * LAYERS else (low, factor)
    return [int(min(most, low * w) + 1e-6) for w in weights]


@pytest.mark.parametrize("budget", [0.4, 0.8])
def test_d2o_shares_by_layer_and_merges_what_it_evicts(model, asked, budget):
    batch, prompts, full = asked
    s = setting(budget)
    scheme = named("d2o")[0].make(s)
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):
        n = case.prefix
        received = {i: x.softmax(-1).sum(1) for i, x in plain_scores(model, case.tokens[:n]).items()}
        shares, mixtures = d2o_budgets(received, int(budget * s.tokens + 1e-9), s.tokens), {}
        for layer, most in enumerate(shares):
            for g in range(KV):
                votes = received[layer][g * GROUP : (g + 1) * GROUP].sum(0).tolist()
                votes[:4] = [math.inf] * 4
                recent = most // 2
                kept = [*best(votes[: n - recent], most - recent), *range(n - recent, n)]
                mixtures[layer, g] = mixture(prompts.keys[layer][row, g, :n], kept, math.exp, None)
        check(got[row], merged_run(model, case, mixtures))
        assert float((got[row] - full[row]).abs().max()) > 1e-3
        found = costs(model, tally, scheme, 8, 4)[row]
        held = sum(int((m.sum(1)[: case.start] > 0).sum()) for m in mixtures.values())
        steps = [(held + LAYERS * KV * (1 + t)) / (LAYERS * KV * (case.start + 1 + t)) for t in range(len(case.steps))]
        assert found.kept == pytest.approx(np.mean(steps)) and found.peak == 1.0


def test_ems_like_drops_what_is_like_no_kept_key(model, asked):
    batch, prompts, full = asked
    scheme = named("ems-like")[0].make(setting(0.4))
    window, capacity = scheme.constants["window"], scheme.constants["capacity"]
    got, _ = simulate(model, batch, prompts, scheme)
    joined = dropped = 0
    for row, case in enumerate(batch.cases):
        n, mixtures = case.prefix, {}
        patterns = {i: x.softmax(-1) for i, x in plain_scores(model, case.tokens[:n]).items()}
        for layer, p in patterns.items():
            for g in range(KV):
                own = p[g * GROUP : (g + 1) * GROUP]
                votes = own.sum(1).mean(0) / n + own[:, -window:].mean(1).mean(0)
                kept = [*best(votes[: n - window].tolist(), capacity - window), *range(n - window, n)]
                mixtures[layer, g] = mixture(prompts.keys[layer][row, g, :n], kept, lambda c: 1.0, 0.5)
                joins = int((mixtures[layer, g] > 0).sum()) - len(kept)
                joined, dropped = joined + joins, dropped + n - len(kept) - joins
        check(got[row], merged_run(model, case, mixtures))
        assert float((got[row] - full[row]).abs().max()) > 1e-3
    assert joined and dropped  # both roads were taken
    assert not named("ems-like")[0].exact and "abstract" in named("ems-like")[0].source


def test_layers_share_all_and_no_layer_gets_more_than_there_is():
    rng = np.random.default_rng(5)
    for _ in range(20):
        spreads, most = rng.random(6) * 3, int(rng.integers(10, 60))
        mean = int(rng.integers(2, most))
        found = allotted(spreads, mean, most)
        assert mean * 6 - 6 <= sum(found) <= mean * 6 and max(found) <= most
        assert [found[i] for i in np.argsort(spreads)] == sorted(found, reverse=True)
    assert allotted([0.1, 5.0], 40, 40) == [40, 40]


def test_nothing_joins_the_last_token_which_is_decoded_again_unmerged():
    rng = np.random.default_rng(3)
    keys, values = (torch.tensor(rng.normal(size=(2, 9, 4)), dtype=torch.float32) for _ in range(2))
    keys[:, 4] = keys[:, -1] * 1.5  # evicted, and most like the last one
    entries = torch.zeros(2, 9, dtype=torch.bool)
    entries[:, [0, 2, 8]] = True
    kept = merged(Seen(keys, values, torch.zeros(2, 1, 4), 0.5), entries, torch.ones_like, -1.0)
    assert torch.equal(kept.keys[:, -1], keys[:, -1]) and torch.equal(kept.values[:, -1], values[:, -1])
    for g in range(2):  # all six evicted ones are in the other two
        own, unit = values[g].double(), torch.nn.functional.normalize(keys[g].double(), dim=-1)
        joined = {0: [0], 2: [2]}
        for e in (1, 3, 4, 5, 6, 7):
            joined[0 if float(unit[e] @ unit[0]) > float(unit[e] @ unit[2]) else 2].append(e)
        for j, some in joined.items():
            torch.testing.assert_close(kept.values[g, j].double(), own[some].mean(0), rtol=1e-5, atol=1e-6)
    alone = torch.zeros(2, 9, dtype=torch.bool)
    alone[:, -1] = True
    assert torch.equal(merged(Seen(keys, values, torch.zeros(2, 1, 4), 0.5), alone, torch.ones_like, -1.0).keys, keys)
