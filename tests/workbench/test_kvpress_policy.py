"""kvpress's DuoAttention in the simulator: against its mask written out on the whole pattern."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch

import workbench as wb
from workbench.policies import named
from workbench.policies.kvpress import fixed_window
from workbench.policies.setting import Setting
from workbench.policies.streaming import streaming
from workbench.simulation.cases import Batch, Case
from workbench.simulation.decoding import decode
from workbench.simulation.reading_prompts import read_whole

SINK, RECENT, TOLD = 3, 9, 12
LENGTHS = (40, 53)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


def by_hand(model, case, streams):
    """Decoded rows' logits with the middle of the prompt hidden from streaming heads, on whole eager patterns."""
    n, group = len(case.tokens) - 1, model.n_heads // model.n_kv_heads

    def hook(scores, hook):
        own, cut = scores.clone(), slice(SINK, case.prefix - RECENT)
        for g in np.flatnonzero(streams[hook.layer()]):
            own[:, g * group : (g + 1) * group, case.prefix : n, cut] = float("-inf")
        return own

    names = [(f"blocks.{i}.attn.hook_attn_scores", hook) for i in range(model.n_layers)]
    return model.bridge.run_with_hooks(torch.tensor([case.tokens[:-1]]), fwd_hooks=names)[0, case.prefix :]


@torch.no_grad()
def test_equals_the_mask_by_hand(model):
    rng = np.random.default_rng(1)
    cases = [Case(tuple(rng.integers(3, 90, n + TOLD).tolist()), n, TOLD - 1) for n in LENGTHS]
    full = {i: rng.random(model.n_kv_heads) < 0.5 for i in range(model.n_layers)}
    full[0][:] = [True, False]
    setting = Setting(range(model.n_layers), model.n_heads, model.n_kv_heads, min(LENGTHS), 1.0)
    prompts, _ = read_whole(model, Batch.of(cases, model.device))
    ours, tally = decode(model, prompts, fixed_window(setting, full, SINK, RECENT))
    moving, _ = decode(model, prompts, streaming(setting, full, SINK, RECENT))
    for row, case in enumerate(cases):
        want = by_hand(model, case, {i: ~on for i, on in full.items()})
        assert (ours[row] - want).abs().max() <= 2e-5 * want.abs().max()
        assert (moving[row] - want).abs().max() > 1e-3 * want.abs().max(), "another window is another policy"
    heads = sum(int(on.sum()) for on in full.values())
    rest = model.n_layers * model.n_kv_heads - heads
    steps = np.arange(1, TOLD)
    np.testing.assert_allclose(tally.kept[0], heads * (LENGTHS[0] + steps) + rest * (SINK + RECENT + steps))


def test_budget_and_published_constants():
    setting = Setting(range(4), 8, 2, 1000, 0.5, [(i, j) for i in range(4) for j in range(2)])
    made, published = (f(setting).constants for f in (named("kvpress")[0].make, named("kvpress")[0].published))
    assert made["full_heads"] == 2 and (published["sink"], published["recent"]) == (64, 256)
    share = (made["full_heads"] + (8 - 2) * (made["sink"] + made["recent"]) / 1000) / 8
    assert share == pytest.approx(0.5, abs=0.001)
