"""Positions counted in the cache: queries and keys turned by their places there, and models that are not turned so."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch
from plain_policies import AGAIN, GROUP, HEADS, LAYERS, check, setting, simulate, texts, tiny
from transformers import AutoConfig

import workbench as wb
from workbench.errors import Unsupported
from workbench.policies import named
from workbench.simulation.costs import costs
from workbench.simulation.windowed import Rotary

SCALED = {
    "linear": ({"rope_type": "linear", "factor": 4.0}, (0.25, 0.0025)),
    "llama3": (  # a wave of 2π tokens is short beside 16, one of 200π long beside 64
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 64}, (1.0, 0.00125),
    ),
}  # fmt: skip
OTHERS = {
    "cohere": {}, "ernie4_5": {}, "gpt2": {}, "gpt_neox": {}, "nanochat": {}, "smollm3": {"no_rope_layers": [1, 0, 1]},
    "llama": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}},
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module", params=[0, 1], ids=AGAIN)
def asked(request, model):
    return texts(model, request.param)


@pytest.mark.parametrize("prefill", ["streaming", "full"])
def test_streaming_counts_positions_in_the_cache(model, asked, prefill):
    batch, prompts, _ = asked
    scheme = named("streaming")[0].make(setting(0.35, prefill))
    sink, recent = scheme.constants["sink"], scheme.constants["recent"]
    got, tally = simulate(model, batch, prompts, scheme)
    for row, case in enumerate(batch.cases):
        n = len(case.tokens) - 1
        check(
            got[row],
            renumbered(model, case, sink, recent, 0 if prefill == "streaming" else case.start)[n - case.scored :],
        )
        kept = costs(model, tally, scheme, 8, 4)[row].kept
        assert kept == pytest.approx(np.mean([(sink + recent) / (i + 1) for i in range(case.start, n)]))


def renumbered(model, case, sink, recent, rows_from, frequencies=(1.0, 0.01)):
    """Queries and keys taken before the rotation, and turned by their places in the cache, row by row."""
    n, before = len(case.tokens) - 1, {}
    half = torch.tensor(frequencies, dtype=torch.float64)

    def turn(x, places):
        angle = torch.as_tensor(places, dtype=torch.float64)[:, None] * half
        a, b = x.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def take(which):
        def hook(x, hook):
            before[which] = x.reshape(n, -1, 4).double()

        return hook

    def change(scores, hook):
        new, q, k = scores[0].double().clone(), before["q"], before["k"]
        for i in range(rows_from, n):
            kept = [j for j in range(i + 1) if j < sink or i - j < recent]
            for h in range(HEADS):
                new[h, i] = float("-inf")
                turned = turn(k[kept, h // GROUP], range(len(kept)))
                new[h, i, kept] = turned @ turn(q[i : i + 1, h], [len(kept) - 1])[0] / 2
        return new[None].to(scores.dtype)

    hooks = [(f"blocks.{i}.attn.{name}", fn) for i in range(LAYERS)
             for name, fn in (("hook_q", take("q")), ("hook_k", take("k")), ("hook_attn_scores", change))]  # fmt: skip
    return model.bridge.run_with_hooks(torch.tensor([case.tokens[:n]]), fwd_hooks=hooks)[0]


def other(kind, folder, **options):
    """A tiny random model of an architecture with these options."""
    of = (
        tiny_models.config(kind)
        if kind in tiny_models.ARCHITECTURES
        else AutoConfig.for_model(kind, **tiny_models.COMMON)
    )
    of.update(options)
    return wb.load(tiny_models.save(kind, folder, of=of))


@pytest.mark.parametrize("kind", SCALED)
def test_frequencies_that_were_scaled_once_are_turned_as_they_are(kind, tmp_path):
    rope, frequencies = SCALED[kind]
    scaled = other("llama", tmp_path, rope_parameters={"rope_theta": 10000.0, **rope})
    batch, prompts, _ = texts(scaled, 0)
    scheme = named("streaming")[0].make(setting(0.35, "full"))
    got, _ = simulate(scaled, batch, prompts, scheme)
    case, sink, recent = batch.cases[0], scheme.constants["sink"], scheme.constants["recent"]
    check(got[0], renumbered(scaled, case, sink, recent, case.start, frequencies)[-case.scored :])
    plain = renumbered(scaled, case, sink, recent, case.start)[-case.scored :]
    assert float((got[0] - plain).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_plain_rotation_in_every_layer_is_refused_by_name(kind, tmp_path):
    with pytest.raises(Unsupported, match=f"plain rotary embeddings.*{kind}"):
        Rotary.of(other(kind, tmp_path, **OTHERS[kind]))


def test_the_same_architecture_with_positions_in_every_layer_is_served(tmp_path):
    Rotary.of(other("smollm3", tmp_path, no_rope_layers=[1, 1, 1]))
