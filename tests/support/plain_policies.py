"""Naive references for cache policies: dense masks on whole patterns of a plain eager run, float64."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch

import workbench as wb
from workbench.policies.setting import Setting
from workbench.simulation.cases import Batch, Case
from workbench.simulation.decoding import decode
from workbench.simulation.reading_prompts import read_by, read_whole, told

LAYERS, HEADS, KV, GROUP = 3, 8, 2, 4
LENGTHS, TOLD = (61, 70, 75), 6
AGAIN = ("question after", "last token again")


def tiny(folder):
    """A random model of 3 layers, 8 query heads, 2 key-value heads, head_dim 4."""
    return wb.load(tiny_models.save("llama", folder))


def texts(model, again, more=0):
    """Three random texts of several lengths, their plain run, and its logits."""
    rng = np.random.default_rng(7 + again)
    cases = [Case(tuple(rng.integers(3, 90, n + TOLD + more).tolist()), n, TOLD + more - 2 * (1 - again), again)
             for n in LENGTHS]  # fmt: skip
    batch = Batch.of(cases, model.device)
    prompts, full = read_whole(model, batch)
    return batch, prompts, full


@pytest.fixture(scope="module", name="model")
def a_model(tmp_path_factory):
    """One for the tests of a file."""
    return tiny(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module", params=[0, 1], ids=AGAIN, name="asked")
def some_texts(request, model):
    """With the question seen, and asked after the cut."""
    return texts(model, request.param)


def setting(budget, prefill="full", seed=0):
    """A budget at the shortest text, with a random list and random scores."""
    rng = np.random.default_rng(seed)
    heads = [(layer, head) for layer in range(LAYERS) for head in range(KV)]
    ranked = [heads[i] for i in rng.permutation(len(heads))]
    scores = {layer: rng.random(HEADS) for layer in range(LAYERS)}
    return Setting(range(LAYERS), HEADS, KV, min(LENGTHS), budget, ranked, scores, prefill, 16)


def plain_scores(model, tokens):
    """Scores before the softmax of a plain eager run, [layer][h, n, n], masked entries -inf."""
    found = {}

    def hook(scores, hook):
        found[hook.layer()] = scores[0].double()

    names = [(f"blocks.{i}.attn.hook_attn_scores", hook) for i in range(LAYERS)]
    model.bridge.run_with_hooks(torch.tensor([tokens]), fwd_hooks=names)
    n = len(tokens)
    above = torch.ones(n, n, dtype=torch.bool).triu(1)
    return {i: s.masked_fill(above, float("-inf")) for i, s in found.items()}


def with_scores(model, tokens, change, change_pattern=None):
    """Logits of the eager run in which change(layer, scores [h, n, n]) rewrites the scores, and the other the pattern."""

    def hooked(rewrite):
        def hook(x, hook):
            return rewrite(hook.layer(), x[0].double().clone())[None].to(x.dtype)

        return hook

    hooks = [(f"blocks.{i}.attn.hook_attn_scores", hooked(change)) for i in range(LAYERS)]
    if change_pattern is not None:
        hooks += [(f"blocks.{i}.attn.hook_pattern", hooked(change_pattern)) for i in range(LAYERS)]
    return model.bridge.run_with_hooks(torch.tensor([tokens]), fwd_hooks=hooks)[0]


def masked_run(model, case, rule, rows_from):
    """Rows i from `rows_from` on see keys j in head h of a layer only where rule(layer, h, i, j); all [n, n]."""
    n = len(case.tokens) - 1
    i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")

    def change(layer, scores):
        for h in range(HEADS):
            scores[h, ~rule(layer, h, i, j) & (i >= rows_from) & (j <= i)] = float("-inf")
        return scores

    return with_scores(model, case.tokens[:n], change)[n - case.scored : n]


def simulate(model, batch, prompts, scheme):
    """What a scheme tells, and its tally."""
    if scheme.prefill is not None:
        prompts = read_by(model, batch, scheme.prefill)
    elif scheme.accumulates:
        prompts = read_whole(model, batch, accumulate=True)[0]
    logits, tally = decode(model, prompts, scheme)
    return told(logits, batch.cases), tally


def check(got, expected, tolerance=2e-5):
    """Equal up to float32."""
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= tolerance * (1 + float(expected.abs().max()))


def best(values, most):
    """Indices of the highest values, equal ones in order."""
    return sorted(range(len(values)), key=lambda j: (-float(values[j]), j))[:most]
