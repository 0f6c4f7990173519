"""The trace of a circuit against planted circuits, whose heads, edges and roles are known."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import chz
import numpy as np
import pytest
import torch
from planted_draws import generated
from workbench_analyses.circuits import experiment
from workbench_analyses.circuits.entering import entering
from workbench_analyses.circuits.evidence import Evidence
from workbench_analyses.circuits.published import PUBLISHED, against_key
from workbench_analyses.trace_circuit import TraceCircuit, trace

import workbench as wb
from workbench.circuits import NO_ROLE, read_circuit
from workbench.cli import main
from workbench.errors import BadInput, TooLarge
from workbench.reference_models.catalogue import BUNDLED
from workbench.reference_models.planted.ioi_circuit import build_circuit
from workbench.reference_models.planted.ioi_key import TASK_ROLES, edges, needed, shown
from workbench.reference_models.planted.ioi_knobs import SHARED, Knobs
from workbench.tasks.circuit_prompts import circuit_rows, circuit_tasks, make_prompts

CASES = [(task, c) for task in TASK_ROLES for c in circuit_tasks()[task].corruptions]
SMALL = {"samples": 24, "explore": 16, "quality": "none"}
VARIANTS = [
    Knobs("llama", heads=8, kv_heads=4, shared=SHARED, beta=20, decoy_norm=0.3, seed=2),
    Knobs(heads=6, layers=4, beta=15, early="induction", seed=1),
]
NAMES = {
    "name-mover": "mover", "negative-mover": "negative mover", "colour-mover": "mover", "inhibition": "S-inhibition",
    "duplicate": "duplicate token", "induction": "induction", "previous": "previous token",
    "gatherer": "content gatherer",
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return wb.load("planted-ioi")


@pytest.mark.parametrize(("task", "corruption"), CASES)
def test_the_bundled_circuit_is_found_with_its_edges_and_by_ablation(model, task, corruption):
    roles = BUNDLED["planted-ioi"].roles
    found = trace(model, task=task, corruption=corruption, **SMALL)
    assert set(found.circuit.carrying) == shown(roles, task, corruption)
    assert {e.edge for e in found.circuit.edges} == edges(roles, task, corruption)
    assert set(found.circuit.needed) == needed(roles, task) == set(found.circuit.nodes)
    role = {head: NAMES[name] for name, heads in roles.items() if name in NAMES for head in heads}
    assert {h.head: h.role for h in found.circuit.heads} == {h: role[h] for h in found.circuit.carrying}
    assert all(h.low <= h.share <= h.high for h in found.circuit.heads)


def test_the_next_stages_are_chosen_as_the_task_is_known_to_work(model):
    found, all_asked = (trace(model, task="ioi", corruption="s2-io", screen=x, **SMALL) for x in (True, False))
    sizes = {(c.channel, c.label): c for c in all_asked.choices if c.depth == 2}
    skipped = [c for c in found.choices if c.depth == 2 and np.isnan(c.size)]
    assert len(skipped) > 10 and max(sizes[c.channel, c.label].size for c in skipped) < 0.02
    assert found.circuit.heads == all_asked.circuit.heads
    assert [s.name for s in found.circuit.stages] == ["1 logits@END", "2 q@END", "3 v@S2"]
    followed = [(c.depth, c.channel, c.label) for c in found.choices if c.followed]
    assert followed == [(2, "q", "END"), (3, "v", "S2")]
    assert {(c.channel, c.label) for c in found.choices} >= {("k", "IO"), ("v", "S1"), ("q", "S2")}
    assert [s.gap for s in found.circuit.stages] == pytest.approx([1, 1, 1], abs=0.02)


@pytest.mark.parametrize("knobs", VARIANTS, ids=lambda k: f"{k.architecture}-{k.early}")
@pytest.mark.parametrize("corruption", ["s2-io", "abc"])
def test_other_shapes_and_deeper_circuits(knobs, corruption):
    circuit = build_circuit(knobs)
    found = trace(circuit.bridge(), task="ioi", corruption=corruption, **SMALL)
    assert set(found.circuit.carrying) == shown(circuit.roles, "ioi", corruption)
    assert {e.edge for e in found.circuit.edges} == edges(circuit.roles, "ioi", corruption)
    assert set(found.circuit.needed) == needed(circuit.roles, "ioi")
    if corruption == "abc" and knobs.early == "induction":
        assert "4 k@S1+1" in [s.name for s in found.circuit.stages]


@pytest.mark.slow
@pytest.mark.parametrize("i", range(20))
def test_generated_models_are_read_without_a_mistake(i):
    """Patching finds the heads that the corruption shows and their edges, ablation all that are needed: random models.

    The threshold was fixed before the models were drawn. A mover that a backup replaces need not be needed by itself. No
    edge may be wrong; one in a trace may stay below the threshold (4 of 80 traces, results/planted_truth.json).
    """
    circuit, model = generated(i)
    repaired = set(circuit.roles["name-mover"]) if circuit.knobs.backup else set()
    for task, corruption in CASES:
        found = trace(model, task=task, corruption=corruption, **SMALL).circuit
        assert set(found.carrying) == shown(circuit.roles, task, corruption), (task, corruption)
        joined, key = {e.edge for e in found.edges}, edges(circuit.roles, task, corruption)
        assert joined <= key and len(key - joined) <= 1, (task, corruption)
        truth = needed(circuit.roles, task)
        assert truth - repaired <= set(found.needed) <= truth, task


def test_the_ranking_goes_down_the_chain(model):
    ranks = trace(model, task="ioi", **SMALL).circuit.ranks()
    assert ranks[2, 0] == pytest.approx(0.67, abs=0.02) and ranks[2, 1] == pytest.approx(0.33, abs=0.02)
    assert ranks[1, 0] == pytest.approx(ranks[2, 0], abs=0.01) == ranks[0, 0]
    assert ranks[0, 1] < 0.01  # the previous-token head has no part in it


def test_a_model_that_cannot_do_the_task_says_so_and_stops(model):
    circuit = build_circuit(Knobs(seed=5))
    generator = torch.Generator().manual_seed(0)
    for block in circuit.model.transformer.h:
        weight = block.attn.c_proj.weight.data
        weight.copy_(weight[torch.randperm(len(weight), generator=generator)])
    broken = wb.load(circuit.bridge())
    with pytest.raises(BadInput, match=r"cannot do task=ioi .*0\.0% of 24 prompts.*force=true") as caught:
        trace(broken, task="ioi", **SMALL)
    assert "\n" not in str(caught.value)
    forced = trace(broken, task="ioi", force=True, **SMALL)
    assert forced.behaviour.accuracy < 0.2


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


def test_a_killed_trace_goes_on_and_its_folder_says_all(model, tmp_path):
    options = {"task": "ioi", "out": str(tmp_path), **SMALL}
    first = trace(model, **options)
    folder = next(tmp_path.iterdir())
    names = {p.name for p in folder.iterdir()}
    assert names >= {"circuit.json", "effects.safetensors", "heads.csv", "report.html", "run.json", "scores.json"}
    assert read_circuit(folder) == first.circuit
    before = (folder / "progress.jsonl").read_text()
    again = trace(model, **options)
    assert again.circuit == first.circuit and (folder / "progress.jsonl").read_text() == before
    top = wb.read_scores(folder).top(2)
    assert list(top) == [h for h, _ in first.circuit.ranking[:2]]


def test_the_report_says_what_was_found_and_measures_are_kept(model, tmp_path):
    options = {"task": "ioi", "samples": 24, "explore": 16, "ablation": "mean", "out": str(tmp_path)}
    found = trace(model, **options)
    page = found.report()
    log = next(tmp_path.iterdir()) / "progress.jsonl"
    before = log.read_text()
    assert trace(model, **options).quality == found.quality and log.read_text() == before
    assert found.verdict.startswith("4 of 24 heads in 3 stages; alone they do 100%")
    assert found.quality is not None and found.quality.randoms.p == pytest.approx(0.01)
    assert all(word in page for word in ("S-inhibition", "duplicate token", "Completeness", "CPR", "trace-circuit"))
    assert not [h for h in found.circuit.heads if h.role == NO_ROLE]


def test_quality_that_fails_leaves_the_report_and_exit_code_1(tmp_path, monkeypatch, capsys):
    """Whatever goes wrong at the end, the trace before it stands, says so, and is measured when asked again."""
    words = ["trace-circuit", "model=planted-ioi", "samples=16", "explore=16", "edges=false", f"out={tmp_path}"]
    faults = (TooLarge("no room for <it>: give memory="), "no room for <it>"), (RuntimeError("oh"), "RuntimeError: oh")
    for error, said in faults:

        def failing(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(experiment, "measured", failing)
        assert main(words) == 1
        (folder,) = tmp_path.iterdir()
        page, record = (folder / "report.html").read_text(), json.loads((folder / "run.json").read_text())
        assert f"NOT measured: {said}".replace("<", "&lt;").replace(">", "&gt;") in page and "duplicate token" in page
        assert record["state"] == "failed" and record["error"].startswith(f"quality: {said}")
        assert record["summary"]["unmeasured"].startswith(said) and read_circuit(folder).nodes
        assert f"quality NOT measured ({said}" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(experiment, "measured", lambda *_: None)
    assert main(words) == 0 and json.loads((folder / "run.json").read_text())["state"] == "done"
    assert "NOT measured" not in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("task=iio", "Did you mean 'ioi'"),
        ("task=ioi corruption=mindif", "corruption=mindif: use one of s2-io, abc"),
        ("samples=3", "samples=3: give at least 16"),
        ("tau=0", "tau=0"),
        ("memory=lots", "memory=lots: give an amount such as 2GB"),
        ("task=induction folder=x", "folder= are for task=ioi"),
        ("mlps=freezed", "mlps=freezed: use live, frozen. Did you mean 'frozen'?"),
        ("model=planted-ioo", "planted-ioi"),
        ("key=gpt2", "key=gpt2: published circuits are gpt2-ioi"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(given, said, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "trace-circuit", *given.split(), f"out={tmp_path}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_published_circuit_is_compared_head_by_head(model):
    key = PUBLISHED["gpt2-ioi"]
    assert len(key.heads) == 26
    with pytest.raises(BadInput, match="key=gpt2-ioi is of 12 × 12 heads, task ioi; this is 3 × 8 heads"):
        trace(model, task="ioi", key="gpt2-ioi", **SMALL)
    found = trace(model, task="ioi", **SMALL)
    heads = (*(replace(h, head=(9, 9)) for h in found.circuit.heads[:1]), replace(found.circuit.heads[1], head=(1, 1)))
    circuit = replace(
        found.circuit, n_layers=12, n_heads=12, heads=heads, needed=((2, 2),), ranking=(((9, 9), 0.7), ((1, 1), 0.3))
    )
    against = against_key(circuit, "gpt2-ioi")
    assert (against.recall, against.precision) == (2 / 26, 2 / 3) and against.beside == ((1, 1),)
    shown = replace(found, circuit=circuit, config=chz.replace(found.config, key="gpt2-ioi"), stages=())
    assert "2 of the 26 heads of the published circuit are found, 1 beside them" in shown.report()


def test_words_that_do_not_fit_are_refused_when_asked(model):
    with pytest.raises(BadInput, match="names that do not fit"):
        trace(model, task="ioi", misfits="refuse", **SMALL)


def test_the_options_that_can_change_a_number_are_the_question():
    question = TraceCircuit().question_asked()
    assert {"tau", "follow", "seed", "mlps", "dtype"} <= set(question) and not {"out", "batch", "memory"} & set(
        question
    )
    assert json.dumps(question)


@pytest.mark.parametrize("given", [{"task": "induction"}, {"task": "induction", "corruption": "resample"}])
def test_induction_is_traced_in_the_trained_model(given):
    found = trace("gpt2", **given, **SMALL)
    assert found.behaviour.accuracy > 0.9 and {h[0] for h in found.circuit.carrying} & {3}


def test_another_batch_resumes_to_the_same_numbers(model, tmp_path):
    options = {"task": "ioi", "out": str(tmp_path), **SMALL}
    first = trace(model, batch=8, **options)
    again = trace(model, batch=24, **options)
    assert again.circuit.needed == first.circuit.needed and len(list(tmp_path.iterdir())) == 1
    np.testing.assert_allclose(again.ablation.effects, first.ablation.effects, atol=1e-3)
