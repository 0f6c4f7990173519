"""Policies that evict, against dense masks on whole patterns: one policy's rule in a few lines, float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_policies import (  # noqa: F401
    GROUP,
    HEADS,
    KV,
    LAYERS,
    a_model,
    best,
    check,
    masked_run,
    plain_scores,
    setting,
    simulate,
    some_texts,
    with_scores,
)

from workbench.policies import named
from workbench.simulation.costs import costs


@pytest.mark.parametrize("budget", [0.2, 0.55])
@pytest.mark.parametrize("prefill", ["full", "streaming", "chunked"])
def test_duo_equals_a_dense_mask(model, asked, budget, prefill):
    batch, prompts, full = asked
    s = setting(budget, prefill)
    scheme = named("duo")[0].make(s)
    k, sink, recent = (scheme.constants[x] for x in ("full_heads", "sink", "recent"))
    kept = set(s.ranked[:k])
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):

        def rule(layer, h, i, j, case=case):
            seen = (j < sink) | (i - j < recent) | ((layer, h // GROUP) in kept)
            return seen | (i < case.start) & (j >= i // 16 * 16 - recent) if prefill == "chunked" else seen

        # a token that is decoded again was read by the rule of the prompt, but nobody sees that entry
        check(got[row], masked_run(model, case, rule, case.start if prefill == "full" else 0))
        assert float((got[row] - full[row]).abs().max()) > 1e-3
    shares = [c.kept for c in costs(model, tally, scheme, 8, 4)]
    assert all(share <= budget + 1e-9 for share in shares)


def test_razor_gives_dropped_keys_their_mean_score(model, asked):
    batch, prompts, full = asked
    s = setting(0.4)
    scheme = named("razor")[0].make(s)
    kept, window = set(s.ranked[: scheme.constants["full_heads"]]), scheme.constants["window"]
    got, _ = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):

        def change(layer, scores, case=case):
            for h in range(HEADS):
                if (layer, h // GROUP) not in kept:
                    dropped = list(range(4, case.prefix - window))
                    mean = scores[h, case.start :, dropped].mean(-1, keepdim=True)
                    scores[h, case.start :, dropped] = mean.expand(-1, len(dropped))
            return scores

        n = len(case.tokens) - 1
        check(got[row], with_scores(model, case.tokens[:n], change)[n - case.scored :])
        assert float((got[row] - full[row]).abs().max()) > 1e-3


def snap_votes(model, case, layer, window, kernel=7, per_kv=True, scores=None):
    """SnapKV's pooled votes by hand."""
    n = case.prefix
    p = (scores or plain_scores(model, case.tokens[:n]))[layer].softmax(-1)[:, n - window : n, : n - window].mean(1)
    p = p.view(KV, GROUP, -1).mean(1) if per_kv else p
    reach = kernel // 2
    return torch.stack(
        [p[:, max(0, j - reach) : j + reach + 1].max(-1).values for j in range(p.shape[1])], -1
    )  # fmt: skip


@pytest.mark.parametrize("name", ["snapkv", "adakv", "pyramidkv", "headkv"])
def test_observing_policies_equal_a_dense_mask(model, asked, name):
    batch, prompts, full = asked
    s = setting(0.45)
    scheme = named(name)[0].make(s)
    window, per_kv = scheme.constants["window"], name != "headkv"
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):
        keeps, plain = {}, plain_scores(model, case.tokens[: case.prefix])
        for layer in range(LAYERS):
            votes = snap_votes(model, case, layer, window, per_kv=per_kv, scores=plain)
            count = votes.shape[0]
            if name == "snapkv":
                most = [scheme.constants["capacity"] - window] * count
            elif name == "pyramidkv":
                most = [scheme.constants["capacities"][layer] - window] * count
            elif name == "headkv":
                most = prompts_budget(s, window)[layer]
            else:
                most = ada_budget(votes, scheme.constants["mean_capacity"] - window)
            for c in range(count):
                keeps[layer, c] = set(best(votes[c].tolist(), most[c])) | set(range(case.prefix - window, case.prefix))

        def rule(layer, h, i, j, case=case, keeps=keeps):
            kept = torch.tensor(sorted(keeps[layer, h // GROUP if per_kv else h]))
            return (j >= case.start) | torch.isin(j, kept)

        check(got[row], masked_run(model, case, rule, case.start))
        assert float((got[row] - full[row]).abs().max()) > 1e-3
        # entries by hand: what is kept of the prompt, and the decoded tokens
        held, caches = sum(len([j for j in k if j < case.start]) for k in keeps.values()), len(keeps)
        steps = [(held + caches * (1 + t)) / (LAYERS * KV * (case.start + 1 + t)) for t in range(len(case.steps))]
        assert costs(model, tally, scheme, 8, 4)[row].kept == pytest.approx(np.mean(steps))


def prompts_budget(s, window):
    """HeadKV's shares, where nobody's is more than the prompt: p · pool + the rest."""
    from workbench.policies.headkv import BETA, shares

    base = int(s.budget * s.tokens / GROUP) - window
    table = np.stack([s.scores[i] for i in range(LAYERS)])
    pool = int(base // BETA)
    wanted = table / table.sum() * pool * table.size + base - pool
    assert wanted.max() < s.tokens - window
    found = shares(table, base, s.tokens - window)
    np.testing.assert_allclose(found, wanted, atol=1.01)
    return found


def ada_budget(votes, mean):
    """Ada-KV by taking the best entry of the layer one at a time, beyond each head's floor."""
    c, n = votes.shape
    floor, order = int(0.2 * mean), votes.argsort(dim=-1, descending=True, stable=True)
    most = [floor] * c
    while sum(most) < c * mean:
        open_heads = [i for i in range(c) if most[i] < n]
        most[max(open_heads, key=lambda i: (float(votes[i, order[i, most[i]]]), -i))] += 1
    return most
