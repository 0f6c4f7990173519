"""The simulator beside the model itself, and what holds for every policy."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch
from plain_policies import (  # noqa: F401
    HEADS,
    KV,
    LAYERS,
    LENGTHS,
    a_model,
    check,
    setting,
    simulate,
    some_texts,
)

import workbench as wb
from workbench.errors import BadInput, Unsupported
from workbench.policies import discover, named
from workbench.policies.scheme import Scheme, keep_all
from workbench.policies.setting import TooTight
from workbench.simulation.cases import Batch, Case
from workbench.simulation.costs import costs
from workbench.simulation.quality import quality
from workbench.simulation.reading_prompts import read_whole, suits


def test_the_full_cache_says_what_the_model_says(model, asked):
    batch, prompts, full = asked
    for case, own in zip(batch.cases, full, strict=True):
        plain = model(torch.tensor([case.tokens]))[0, -1 - case.scored : -1]
        check(own, plain)
    got, tally = simulate(model, batch, prompts, Scheme(keep_all))
    for a, b in zip(got, full, strict=True):
        check(a, b)
    found = costs(model, tally, Scheme(keep_all), 8, 4)
    assert all(c.kept == c.read == c.peak == c.prefill_share == 1.0 for c in found)
    case = batch.cases[0]
    last = len(case.tokens) - 1  # entries of a head when the last token is fed
    assert found[0].bytes == LAYERS * KV * last * 8 * 4
    assert found[0].paged_bytes == LAYERS * KV * -(-last // 16) * 16 * 8 * 4
    steps = [case.start + 1 + t for t in range(len(case.steps))]
    assert found[0].decode_flops == pytest.approx(2 * 8 * LAYERS * HEADS * np.mean(steps))
    assert all(q.kl < 1e-8 and q.agree == 1 and q.loss == pytest.approx(q.full_loss, abs=1e-5)
               for q in quality(batch.cases, got, full))  # fmt: skip


def test_every_policy_meets_its_budget_or_says_that_it_cannot(model, asked):
    batch, prompts, _ = asked
    for name, policy in discover().items():
        for budget in (0.3, 0.6):
            scheme = policy.make(setting(budget, policy.prefills[0]))
            _, tally = simulate(model, batch, prompts, scheme)
            held = torch.stack([tally.prompt[layer] for layer in range(LAYERS)]).sum(0)
            if scheme.keep is not keep_all:
                share = float(held[0]) / (min(LENGTHS) * LAYERS * KV)  # the budget counts at the shortest prompt
                assert budget - 0.08 <= share <= budget + 1e-9, name
            if policy.prefills == ("streaming",):
                share = costs(model, tally, scheme, 8, 4)[0].prefill_share
                assert budget - 0.15 <= share <= budget + 1e-9, name
    for policy in discover().values():
        with pytest.raises(TooTight):
            policy.make(setting(0.001))


def test_what_cannot_be_meant_is_one_line(model):
    with pytest.raises(BadInput, match="Did you mean 'razor'"):
        named("rasor")
    with pytest.raises(BadInput, match="full, streaming, chunked"):
        named("duo:windowed")
    with pytest.raises(BadInput, match="nothing is told"):
        Case((1, 2, 3), 3, 1)
    with wb.intervene(model, wb.mask([(0, 0)])), pytest.raises(Unsupported, match="plain model"):
        suits(model)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "qwen3"])
def test_other_positions_and_projections_say_the_same(kind, tmp_path):
    other, rng = wb.load(tiny_models.save(kind, tmp_path)), np.random.default_rng(1)
    batch = Batch.of([Case(tuple(rng.integers(3, 90, n).tolist()), n - 5, 4) for n in (30, 41)], other.device)
    prompts, full = read_whole(other, batch)
    for a, b in zip(simulate(other, batch, prompts, Scheme(keep_all))[0], full, strict=True):
        check(a, b)


def test_bfloat16_stays_near_float32(tmp_path):
    folder, rng = tiny_models.save("llama", tmp_path), np.random.default_rng(2)
    cases = [Case(tuple(rng.integers(3, 90, n).tolist()), n - 5, 4) for n in (66, 71)]
    found = []
    for dtype in ("float32", "bfloat16"):
        other = wb.load(folder, dtype)
        batch = Batch.of(cases, other.device)
        prompts, _ = read_whole(other, batch)
        found.append(simulate(other, batch, prompts, named("razor")[0].make(setting(0.4)))[0])
    for a, b in zip(*found, strict=True):
        assert b.dtype is torch.bfloat16 and float((a - b.float()).abs().mean()) < 0.05 * float(a.abs().mean()) + 0.02


def test_models_with_windows_are_refused(tmp_path):
    with pytest.raises(Unsupported, match="full attention in every layer"):
        suits(wb.load(tiny_models.save("mistral", tmp_path)))
