"""Policies that read some of the cache at each step, against dense masks on whole patterns, float64."""

from __future__ import annotations

import numpy as np
import pytest
from plain_policies import (  # noqa: F401
    GROUP,
    HEADS,
    KV,
    LAYERS,
    a_model,
    best,
    check,
    setting,
    simulate,
    some_texts,
    texts,
    with_scores,
)

from workbench.policies import named
from workbench.simulation.costs import costs


def test_exact_top_keys_are_read_by_every_query_head(model, asked):
    batch, prompts, _ = asked
    scheme = named("topk")[0].make(setting(0.3))
    sink, local, top = (scheme.constants[x] for x in ("sink", "local", "top"))
    got, tally = simulate(model, batch, prompts, scheme)
    read = {}
    for row, case in enumerate(batch.cases):

        def change(layer, scores, case=case, row=row):
            for h in range(HEADS):
                for i in range(case.start, len(case.tokens) - 1):
                    always = {j for j in range(i + 1) if j < sink or i - j < local or j >= case.start}
                    others = sorted((j for j in range(i + 1) if j not in always), key=lambda j: -float(scores[h, i, j]))
                    seen = always | set(others[:top])
                    read.setdefault((row, layer, h // GROUP, i), set()).update(seen)
                    scores[h, i, [j for j in range(i + 1) if j not in seen]] = float("-inf")
            return scores

        n = len(case.tokens) - 1
        check(got[row], with_scores(model, case.tokens[:n], change)[n - case.scored :])
        steps = range(case.start, n)
        shares = [
            sum(len(v) for k, v in read.items() if k[0] == row and k[3] == i) / (LAYERS * KV * (i + 1)) for i in steps
        ]
        found = costs(model, tally, scheme, 8, 4)[row]
        assert found.read == pytest.approx(np.mean(shares)) and found.kept == 1.0


@pytest.mark.parametrize("name", ["longheads", "tokenselect"])
def test_reading_by_chunks_and_by_votes(model, asked, name):
    batch, prompts, full = asked
    scheme = named(name)[0].make(setting(0.4))
    c, got = scheme.constants, simulate(model, batch, prompts, scheme)[0]
    for row, case in enumerate(batch.cases):

        def best_chunks(scores, i, case=case):
            size, last = c["chunk"], (case.prefix - 1) // c["chunk"]
            chunks = {m: range(m * size, min((m + 1) * size, case.prefix)) for m in range(last + 1)}
            means = {m: float(scores[i, list(own)].mean()) for m, own in chunks.items() if m not in (0, last)}
            won = {0, last, *sorted(means, key=lambda m: -means[m])[: c["chunks"] - 2]}
            return {j for m in won for j in chunks[m]}

        def most_votes(scores, i, case=case):
            always = {j for j in range(case.start) if j < c["sink"] or i - j < c["local"]}
            votes = scores[:, i, : case.start].softmax(-1).sum(0)
            others = sorted(set(range(case.start)) - always, key=lambda j: -float(votes[j]))
            return always | set(others[: c["top"]])

        def change(layer, scores, case=case, best_chunks=best_chunks, most_votes=most_votes):
            plain = scores.clone()
            for h in range(HEADS):
                for i in range(case.start, len(case.tokens) - 1):
                    seen = best_chunks(plain[h], i) if name == "longheads" else most_votes(plain, i)
                    scores[h, i, [j for j in range(case.start) if j not in seen]] = float("-inf")
            return scores

        n = len(case.tokens) - 1
        check(got[row], with_scores(model, case.tokens[:n], change)[n - case.scored :])
        assert float((got[row] - full[row]).abs().max()) > 1e-3


@pytest.mark.parametrize(("again", "budget"), [(0, 0.9), (1, 0.9), (1, 0.55), (0, 0.4)])
def test_recycled_attention_reads_what_the_last_full_step_looked_at(model, again, budget):
    batch, prompts, full = texts(model, again, more=6)
    scheme = named("recycled")[0].make(setting(budget))
    stride, local, top = (scheme.constants[x] for x in ("stride", "local", "top"))
    got, tally = simulate(model, batch, prompts, scheme)
    assert len(batch.cases[0].steps) > 2 * stride  # several full steps
    for row, case in enumerate(batch.cases):
        n, start, read = len(case.tokens) - 1, case.start, {}

        def change(layer, scores, start=start, n=n, read=read):
            plain = scores.clone()
            for g in range(KV):
                heads = range(g * GROUP, (g + 1) * GROUP)
                for t in range(n - start):
                    full_row = start - 1 + t // stride * stride
                    most = plain[heads, full_row, :start].softmax(-1).amax(0)
                    seen = set(best(most.tolist(), top)) | {j for j in range(start) if start + t - j < local}
                    if t % stride == stride - 1:
                        seen = set(range(start))
                    read[layer, g, t] = len(seen) + t + 1
                    for h in heads:
                        scores[h, start + t, [j for j in range(start) if j not in seen]] = float("-inf")
            return scores

        check(got[row], with_scores(model, case.tokens[:n], change)[n - case.scored :])
        assert float((got[row] - full[row]).abs().max()) > 1e-3
        shares = [sum(read[i, g, t] for i in range(LAYERS) for g in range(KV)) / (LAYERS * KV * (start + 1 + t))
                  for t in range(n - start)]  # fmt: skip
        found = costs(model, tally, scheme, 8, 4)[row]
        assert found.read == pytest.approx(np.mean(shares)) and found.kept == 1.0
