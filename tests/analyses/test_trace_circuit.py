"""The trace of a circuit against planted circuits, whose heads, edges and roles are known."""

from __future__ import annotations

import json
from dataclasses import replace

import chz
import numpy as np
import pytest
import torch
from workbench_analyses.circuits.entering import entering
from workbench_analyses.circuits.evidence import Evidence
from workbench_analyses.circuits.published import PUBLISHED, against_key
from workbench_analyses.trace_circuit import TraceCircuit, trace

import workbench as wb
from workbench.errors import BadInput
from workbench.reference_models.catalogue import BUNDLED
from workbench.reference_models.planted.ioi_key import TASK_ROLES, edges, needed, shown
from workbench.tasks.circuit_prompts import circuit_rows, circuit_tasks, make_prompts

CASES = [(task, c) for task in TASK_ROLES for c in circuit_tasks()[task].corruptions]
SMALL = {"samples": 24, "explore": 16, "quality": "none"}
NAMES = {
    "name-mover": "mover", "negative-mover": "negative mover", "colour-mover": "mover", "inhibition": "S-inhibition",
    "duplicate": "duplicate token", "induction": "induction", "previous": "previous token",
    "gatherer": "content gatherer",
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return wb.load("planted-ioi")


@pytest.fixture(scope="module")
def ioi(model):
    return trace(model, task="ioi", corruption="s2-io", **SMALL)


@pytest.mark.parametrize(("task", "corruption"), CASES)
def test_the_bundled_circuit_is_found_with_its_edges_and_by_ablation(model, request, task, corruption):
    roles = BUNDLED["planted-ioi"].roles
    same = (task, corruption) == ("ioi", "s2-io")
    found = request.getfixturevalue("ioi") if same else trace(model, task=task, corruption=corruption, **SMALL)
    assert set(found.circuit.carrying) == shown(roles, task, corruption)
    assert {e.edge for e in found.circuit.edges} == edges(roles, task, corruption)
    assert set(found.circuit.needed) == needed(roles, task) == set(found.circuit.nodes)
    role = {head: NAMES[name] for name, heads in roles.items() if name in NAMES for head in heads}
    assert {h.head: h.role for h in found.circuit.heads} == {h: role[h] for h in found.circuit.carrying}
    assert all(h.low <= h.share <= h.high for h in found.circuit.heads)


def test_the_next_stages_are_chosen_as_the_task_is_known_to_work(model, ioi):
    found, all_asked = ioi, trace(model, task="ioi", corruption="s2-io", screen=False, **SMALL)
    sizes = {(c.channel, c.label): c for c in all_asked.choices if c.depth == 2}
    skipped = [c for c in found.choices if c.depth == 2 and np.isnan(c.size)]
    assert len(skipped) > 10 and max(sizes[c.channel, c.label].size for c in skipped) < 0.02
    assert found.circuit.heads == all_asked.circuit.heads
    assert [s.name for s in found.circuit.stages] == ["1 logits@END", "2 q@END", "3 v@S2"]
    followed = [(c.depth, c.channel, c.label) for c in found.choices if c.followed]
    assert followed == [(2, "q", "END"), (3, "v", "S2")]
    assert {(c.channel, c.label) for c in found.choices} >= {("k", "IO"), ("v", "S1"), ("q", "S2")}
    assert [s.gap for s in found.circuit.stages] == pytest.approx([1, 1, 1], abs=0.02)


def test_the_ranking_goes_down_the_chain(ioi):
    ranks = ioi.circuit.ranks()
    assert ranks[2, 0] == pytest.approx(0.67, abs=0.02) and ranks[2, 1] == pytest.approx(0.33, abs=0.02)
    assert ranks[1, 0] == pytest.approx(ranks[2, 0], abs=0.01) == ranks[0, 0]
    assert ranks[0, 1] < 0.01  # the previous-token head has no part in it


def test_effects_of_no_size_enter_nowhere():
    """Negative control: noise around zero, whose mean may well exceed the threshold in one draw of prompts."""
    rng = np.random.default_rng(11)
    gaps = rng.normal(-10, 1, 40)
    rates = [entering(rng.normal(0, 3, (40, 5, 20)), gaps, seed).at(0.02).mean() for seed in range(10)]
    assert np.mean(rates) < 0.04  # a 95 % interval by bootstrap, not corrected over heads
    quiet = [entering(rng.normal(0, 0.5, (40, 5, 20)), gaps, seed).at(0.02).mean() for seed in range(10)]
    assert np.mean(quiet) == 0  # noise well below the threshold


def test_shares_and_intervals_are_those_of_a_plain_bootstrap():
    rng = np.random.default_rng(3)
    gaps, effects = rng.normal(-8, 2, 30), rng.normal(-2, 1, (30, 1, 2))
    found = entering(effects, gaps, 0, draws=4000)
    means = []
    for _ in range(4000):
        some = rng.integers(0, 30, 30)
        means.append(effects[some].sum(0) / gaps[some].sum())
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(found.share, effects.sum(0) / gaps.sum())
    np.testing.assert_allclose(found.low, low, atol=0.01)
    np.testing.assert_allclose(found.high, high, atol=0.01)
    assert found.steady.all() and found.at(0.1).all() and not found.at(0.5).any()
    assert found.counts()[0.1] == 2


def test_attention_is_that_of_the_pattern(model):
    prompts = make_prompts("ioi", model.tokenizer, 6, 2).prompts
    evidence, rows = Evidence(model, prompts, 4, 0), circuit_rows(prompts)
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(model.n_layers)]
    _, cache = model.bridge.run_with_cache(rows.clean, names_filter=names, attention_mask=rows.mask.long())
    got = evidence.attends("END")
    for layer, name in enumerate(names):
        for j, label in enumerate(evidence.labels):
            want = torch.stack([
                cache[name][b, :, -1, slice(*spans[label])].sum(-1) for b, spans in enumerate(rows.spans)
            ]).mean(0)  # fmt: skip
            np.testing.assert_allclose(got[layer, :, j], want, atol=1e-5)


def test_written_tokens_are_those_of_the_projected_outputs(model):
    rows = make_prompts("colored-objects", model.tokenizer, 5, 2).rows()
    at = rows.at("object")
    names = [f"blocks.{i}.attn.hook_{x}" for i in range(model.n_layers) for x in "vz"]
    names.append(f"blocks.{model.n_layers - 1}.hook_resid_post")
    _, cache = model.bridge.run_with_cache(rows.clean, names_filter=names)
    final, head = cache[names[-1]][:, -1], model.bridge.original_model.lm_head.weight
    scale = final.var(-1, unbiased=False, keepdim=True).add(1e-5).rsqrt()
    for source, point, column in ((None, "z", torch.full((5,), -1)), (at, "v", at)):
        found = wb.patching.written_tokens(model, rows.clean, source, k=3)
        for layer in range(model.n_layers):
            z = cache[f"blocks.{layer}.attn.hook_{point}"].view(5, rows.clean.shape[1], model.n_heads, -1)
            z = z[torch.arange(5), column]
            block = model.bridge.original_model.transformer.h[layer].attn.c_proj.weight
            writes = torch.einsum("bhe,hed->bhd", z, block.view(model.n_heads, -1, block.shape[1]))
            normed = (writes - writes.mean(-1, keepdim=True)) * scale[:, None]
            normed = normed * model.bridge.original_model.transformer.ln_f.weight
            logits = normed @ head.T
            for tops, ids in ((logits.topk(3).values, found.highest), (-(-logits).topk(3).values, found.lowest)):
                picked = logits.gather(-1, ids[:, layer])
                torch.testing.assert_close(picked, tops, rtol=1e-3, atol=1e-3)


def test_a_published_circuit_is_compared_head_by_head(model, ioi):
    key = PUBLISHED["gpt2-ioi"]
    assert len(key.heads) == 26
    with pytest.raises(BadInput, match="key=gpt2-ioi is of 12 × 12 heads, task ioi; this is 3 × 8 heads"):
        trace(model, task="ioi", key="gpt2-ioi", **SMALL)
    found = ioi
    heads = (*(replace(h, head=(9, 9)) for h in found.circuit.heads[:1]), replace(found.circuit.heads[1], head=(1, 1)))
    circuit = replace(
        found.circuit, n_layers=12, n_heads=12, heads=heads, needed=((2, 2),), ranking=(((9, 9), 0.7), ((1, 1), 0.3))
    )
    against = against_key(circuit, "gpt2-ioi")
    assert (against.recall, against.precision) == (2 / 26, 2 / 3) and against.beside == ((1, 1),)
    shown = replace(found, circuit=circuit, config=chz.replace(found.config, key="gpt2-ioi"), stages=())
    assert "2 of the 26 heads of the published circuit are found, 1 beside them" in shown.report()


def test_the_options_that_can_change_a_number_are_the_question():
    question = TraceCircuit().question_asked()
    assert {"tau", "follow", "seed", "mlps", "dtype"} <= set(question) and not {"out", "batch", "memory"} & set(
        question
    )
    assert json.dumps(question)
