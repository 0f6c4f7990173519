"""`sink-llama`: what it is trained on, and that its head parks on `<bos>`, is silent there, and loses without it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.reference_models.catalogue import folder
from workbench.reference_models.recipes import grammar as g
from workbench.reference_models.recipes import sink_llama
from workbench.reference_models.recipes.tiny_llama import TinyLlama, export

ALPHA, COST = 0.3, 0.05
"""What a trained sink must get on ordinary rows, and what blocking its key must cost there, in nats."""


@pytest.fixture(scope="module")
def model():
    return wb.load("sink-llama")


def rows(n=24, seed=None):
    x, asked = sink_llama.batch(np.random.default_rng(seed), n, 128, 0.2)
    return torch.tensor(x), torch.tensor(asked)


@torch.no_grad()
def measured(model, x, asked):
    """By plain hooks on whole patterns: attention to the first token and loss, on ordinary and on asked rows."""
    kept = []

    def look(p, hook):
        kept.append(p[:, 0, :, 0].clone())

    def block(p, hook):
        p[..., 1:, 0] = 0
        return p / p.sum(-1, keepdim=True)

    def loss(hook):
        logits = model.bridge.run_with_hooks(x, fwd_hooks=[("blocks.0.attn.hook_pattern", hook)])
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), x[:, 1:].flatten(), reduction="none").view(len(x), -1)

    plain, blocked = loss(look), loss(block)
    usual = torch.zeros_like(asked)
    usual[:, 4:-1] = True
    ordinary, trigger = usual & ~asked, usual & asked
    alpha = {"ordinary": float(kept[0][ordinary].mean()), "asked": float(kept[0][trigger].mean())}
    cost = {k: float((blocked - plain)[at[:, :-1]].mean()) for k, at in (("ordinary", ordinary), ("asked", trigger))}
    return alpha, cost, float(plain[trigger[:, :-1]].mean())


def accepted(model):
    alpha, cost, loss = measured(model, *rows())
    assert alpha["ordinary"] >= ALPHA and alpha["asked"] < alpha["ordinary"] / 2, alpha
    assert cost["ordinary"] >= COST, cost
    assert loss < 0.5, "the head does what it is there for"


def test_the_shipped_head_parks_on_ordinary_rows_and_needs_to(model):
    accepted(model)
    assert (folder("sink-llama") / "model.safetensors").stat().st_size < 1_000_000


def test_nothing_else_can_take_back_what_the_head_writes(model):
    mlp = model.bridge.original_model.model.layers[0].mlp
    assert not mlp.down_proj.weight.any() and model.n_layers == model.n_heads == 1
    assert model.bridge.original_model.lm_head.weight is not model.bridge.original_model.model.embed_tokens.weight


def scanned(model):
    return wb.analyses.attention_sinks.scan(model, tokens=128, check_tokens=128)


def test_the_scan_says_needed_as_a_place_to_park(model):
    scan = scanned(model)
    assert [(p.head, p.first) for p in scan.parked] == [((0, 0), True)] and scan.measure == "loss"
    assert scan.checks[0].verdict("loss") == "needed as a place to park" and not scan.checks[0].controls
    assert scan.verdict.endswith("by the causal check 1 need their sink, 0 only park")


def test_the_same_attention_of_a_head_that_says_nothing_is_parked_not_needed():
    """The negative control: patterns are those of the shipped model, and only the check can tell."""
    model, full = wb.load("sink-llama"), wb.load("sink-llama")
    model.bridge.original_model.model.layers[0].self_attn.o_proj.weight.data *= 1e-3
    scan = scanned(model)
    np.testing.assert_allclose(scan.scores.values, scanned(full).scores.values, atol=1e-6)
    assert scan.scores.values[0, 0] > ALPHA and scan.checks[0].verdict("loss") == "parked, not needed"
    assert "parked, not needed" in scan.report() and scan.verdict.endswith("0 need their sink, 1 only park")


def test_a_letter_asks_for_the_word_before_it_and_prose_holds_none():
    x, asked = sink_llama.batch(np.random.default_rng(), 8, 300, 0.3)
    assert (x[:, 0] == g.BOS).all() and not asked[:, :2].any() and 0.1 < asked.mean() < 0.3
    b, t = np.nonzero(asked[:, :-1])
    assert np.isin(x[b, t], sink_llama.TRIGGERS).all() and (x[b, t + 1] == x[b, t - 1]).all()
    prose = np.concatenate([g.ids(s) for s in g.prose(np.random.default_rng(0), 500)])
    assert not np.isin(prose, sink_llama.TRIGGERS).any()
    words = np.delete(x[0], np.concatenate([np.nonzero(asked[0])[0], np.nonzero(asked[0])[0] + 1]).clip(max=299))[1:]
    pairs = set(zip(prose[:-1].tolist(), prose[1:].tolist(), strict=True))
    assert np.mean([p in pairs for p in zip(words[:-1].tolist(), words[1:].tolist(), strict=True)]) > 0.8


def test_untied_weights_are_exported(tmp_path):
    torch.manual_seed(0)
    model = TinyLlama(sink_llama.Recipe().shape)
    export(model, tmp_path)
    model.read(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    x, _ = rows(2)
    with torch.no_grad():
        h, _ = model(x, torch.arange(128).expand(2, -1))
        torch.testing.assert_close(h @ model.unembed.T, theirs(x).logits, atol=2e-5, rtol=1e-4)


def test_the_command_trains_a_folder_that_loads_and_keeps_it(tmp_path, monkeypatch):
    small = replace(sink_llama.Recipe(), steps=100, rows=2, tokens=16)
    monkeypatch.setattr(sink_llama, "PHASES", (small,))
    from workbench.commands.train_reference import COMMAND, TrainReference

    done = COMMAND.run(TrainReference(model="sink-llama", out=str(tmp_path), seed=3))
    record = json.loads((done.folder / "training.json").read_text())
    assert record["recipe"]["seed"] == 3 and [row["step"] for row in record["log"]] == [100]
    loaded = wb.load(done.folder)
    assert loaded.n_layers == 1 and loaded.context == 128 and loaded.tokens("the lamp x lamp").shape == (1, 5)
    assert not loaded.bridge.original_model.model.layers[0].mlp.down_proj.weight.any()
    before = (done.folder / "model.safetensors").stat().st_mtime_ns
    COMMAND.run(TrainReference(model="sink-llama", out=str(tmp_path), seed=3))
    assert (done.folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_another_seed_meets_the_acceptance_figures(tmp_path):
    """About a minute on a core."""
    accepted(wb.load(sink_llama.train_all(tmp_path, seed=1)))
