"""Runs of traces: what they keep, how they go on, what is refused and how."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from workbench_analyses.circuits import experiment
from workbench_analyses.trace_circuit import trace

import workbench as wb
from workbench.circuits import NO_ROLE, read_circuit
from workbench.cli import main
from workbench.errors import BadInput, TooLarge
from workbench.reference_models.planted.ioi_circuit import build_circuit
from workbench.reference_models.planted.ioi_knobs import Knobs

SMALL = {"samples": 24, "explore": 16, "quality": "none"}


@pytest.fixture(scope="module")
def model():
    return wb.load("planted-ioi")


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


def test_another_batch_resumes_to_the_same_numbers(model, tmp_path):
    options = {"task": "ioi", "out": str(tmp_path), **SMALL, "samples": 16, "edges": False}
    first = trace(model, batch=8, **options)
    again = trace(model, batch=16, **options)
    assert again.circuit.needed == first.circuit.needed and len(list(tmp_path.iterdir())) == 1
    np.testing.assert_allclose(again.ablation.effects, first.ablation.effects, atol=1e-3)


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
def test_bad_input_is_one_line_and_exit_code_2(given, said, tmp_path, capsys):
    assert main(["trace-circuit", *given.split(), f"out={tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.strip().splitlines()) == 1


def test_words_that_do_not_fit_are_refused_when_asked(model):
    with pytest.raises(BadInput, match="names that do not fit"):
        trace(model, task="ioi", misfits="refuse", **SMALL)


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


def test_the_report_says_what_was_found_and_measures_are_kept(model, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "MEASURED", 12)
    options = {"task": "ioi", "samples": 16, "explore": 16, "ablation": "mean", "out": str(tmp_path)}
    found = trace(model, **options)
    page = found.report()
    log = next(tmp_path.iterdir()) / "progress.jsonl"
    before = log.read_text()
    assert trace(model, **options).quality == found.quality and log.read_text() == before
    assert found.verdict.startswith("4 of 24 heads in 3 stages; alone they do 100%")
    assert found.quality is not None and found.quality.randoms.p == pytest.approx(0.01)
    assert all(word in page for word in ("S-inhibition", "duplicate token", "Completeness", "CPR", "trace-circuit"))
    assert not [h for h in found.circuit.heads if h.role == NO_ROLE]
