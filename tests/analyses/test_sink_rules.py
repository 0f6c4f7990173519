"""When a key is a sink: patterns wired by hand that have none, and those that have one wherever it stands."""

from __future__ import annotations

import pytest
import torch

from workbench.sinks import SinkRule, held_by_most

LENGTHS = (64, 100, 128, 256, 777)


def wired(kind, n):
    """A causal pattern [n, n] in float64."""
    q, k = torch.arange(n)[:, None], torch.arange(n)[None]
    w = {"even": n, "previous": None, "self": 1}.get(kind, kind)
    if kind == "previous":
        p = torch.zeros(n, n, dtype=torch.float64)
        p[torch.arange(n), (torch.arange(n) - 1).clamp_min(0)] = 1
        return p
    p = ((k <= q) & (q - k < w)).double()
    return p / p.sum(1, keepdim=True)


def flagged(p, a=5.0):
    """Corrected sinks and the paper's, by the definitions alone."""
    n = len(p)
    count = torch.arange(n, 0, -1).double()
    share = 1 / torch.arange(1, n + 1).double()
    even = torch.stack([share[k:].sum() for k in range(n)]) / count
    received = p.sum(0) / count
    shaped = received[None, None, None], even[None, None], count[None, None], torch.tensor([n]), torch.tensor([0])
    held = torch.tensor([float((p[k:, k] > share[k:] * (1 + 1e-9)).double().mean()) for k in range(n)])
    own, paper = (SinkRule(name, a).candidates(*shaped)[0, 0, 0] for name in ("corrected", "paper"))
    return (own & held_by_most(held)).nonzero()[:, 0].tolist(), paper.nonzero()[:, 0].tolist()


@pytest.mark.parametrize("n", LENGTHS)
def test_even_local_and_window_heads_have_no_sink_at_any_length(n):
    for kind in ("even", "previous", "self", 8, n // 16, n // 8, n // 7, n // 6, n // 5, n // 3, n // 2, n - 3):
        p = wired(kind, n)
        assert flagged(p)[0] == [], kind
        assert flagged(0.5 * p + 0.5 * wired("even", n))[0] == [], kind
    by_paper = {kind: flagged(wired(kind, n))[1] for kind in ("even", "previous")}
    assert by_paper["previous"] and bool(by_paper["even"]) == (n > 83), "the paper's rule flags them"


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("at", [0, 0.25])
def test_a_sink_is_found_wherever_it_stands_and_a_few_rows_make_none(n, at):
    key = int(at * n)
    p = 0.4 * wired("even", n) + 0.1 * wired("previous", n)
    p[:, 0] += 0.5 * (torch.arange(n) < key)
    p[key:, key] += 0.5
    assert flagged(p)[0] == [key]
    few = wired("even", n)
    rows = torch.arange(key + 1, n)[::3]
    few[rows] = 0.0
    few[rows, key] = 1.0
    assert flagged(few)[0] == []
    one = wired("even", n)
    one[-1], one[-1, key] = 0.0, 1.0
    assert flagged(one)[0] == []
