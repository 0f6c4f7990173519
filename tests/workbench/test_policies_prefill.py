"""Policies that read the prompt in part, against dense masks on whole patterns, float64."""

from __future__ import annotations

import pytest
import torch
from plain_policies import (  # noqa: F401
    GROUP,
    HEADS,
    LAYERS,
    a_model,
    best,
    check,
    masked_run,
    setting,
    simulate,
    some_texts,
    with_scores,
)

from workbench.policies import named
from workbench.simulation.costs import costs


def test_minference_narrows_the_prefill_alone(model, asked):
    batch, prompts, full = asked
    s = setting(0.5)
    scheme = named("minference")[0].make(s)
    k, sink, recent = (scheme.constants[x] for x in ("full_heads", "sink", "recent"))
    kept = set(s.ranked[:k])
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):

        def rule(layer, h, i, j, case=case):
            return (j < sink) | (i - j < recent) | (i >= case.start) | ((layer, h // GROUP) in kept)

        check(got[row], masked_run(model, case, rule, 0))
        assert float((got[row] - full[row]).abs().max()) > 1e-3
    found = costs(model, tally, scheme, 8, 4)[0]
    assert found.kept == found.read == 1.0 and 0.45 <= found.prefill_share <= 0.55


def chosen_lines(scores, constants):
    """Columns and distances of one head by its last 64 rows, from scores [n, n] that hold -inf above the diagonal."""
    n = len(scores)
    p = scores.softmax(-1)[max(0, n - 64) :]
    column, distance = p.sum(0).tolist(), [0.0] * n
    for i, row in zip(range(max(0, n - 64), n), p.tolist()):
        for j in range(i + 1):
            distance[i - j] += row[j]
    column[: constants["first"]] = [float("inf")] * constants["first"]
    distance[: constants["last"]] = [float("inf")] * constants["last"]
    return set(best(column, constants["vertical"])), set(best(distance, constants["slash"]))


@pytest.mark.parametrize("budget", [0.25, 0.6])
def test_vertical_slash_reads_the_prompt_along_its_lines(model, asked, budget):
    batch, prompts, full = asked
    scheme = named("vertical-slash")[0].make(setting(budget))
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):
        n, masks = case.prefix, {}

        def reading(layer, scores, n=n, masks=masks):
            for h in range(HEADS):
                causal = scores[h].masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), float("-inf"))
                columns, distances = chosen_lines(causal, scheme.constants)
                seen = [[j <= i and (j in columns or i - j in distances) for j in range(n)] for i in range(n)]
                masks[layer, h] = torch.tensor(seen)
                scores[h] = causal.masked_fill(~masks[layer, h], float("-inf"))
            return scores

        with_scores(model, case.tokens[:n], reading)

        def again(layer, scores, case=case, masks=masks):  # tokens that are decoded see the whole cache
            for h in range(HEADS):
                hidden = ~masks[layer, h][: case.start, : case.start]
                scores[h, : case.start, : case.start] = scores[h, : case.start, : case.start].masked_fill(
                    hidden, float("-inf")
                )
            return scores

        told = with_scores(model, case.tokens[:-1], again)[len(case.tokens) - 1 - case.scored :]
        check(got[row], told)
        assert float((got[row] - full[row]).abs().max()) > 1e-3
        found = costs(model, tally, scheme, 8, 4)[row]
        products = sum(int(m.sum()) for m in masks.values())
        assert found.prefill_share == pytest.approx(products / (LAYERS * HEADS * n * (n + 1) / 2))
        assert found.kept == found.read == found.peak == 1.0 and found.prefill_share <= budget
