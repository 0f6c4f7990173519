"""Layouts of run folders: written by hand as earlier versions wrote them, read; those of later versions, refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import workbench as wb
from workbench.circuits import read_circuit
from workbench.cli import main
from workbench.errors import BadInput, RunError
from workbench.exporters import export
from workbench.head_lists import about_list, head_list, read_heads
from workbench.head_metrics import HeadMetrics, Metric, read_metrics
from workbench.heads import HeadScores
from workbench.runs import Run, read_run
from workbench.schema import SCHEMA, schema_of, stamp
from workbench.scores_io import read_scores, score_files

# What workbench wrote before files of all kinds said `schema`: run.json said 1, the others in words of their own.
OLD_RUN = {
    "schema": 1, "state": "done", "command": "scan-heads", "model": "llama", "label": "", "question": {"model": "llama"},
    "versions": {"workbench": "0.1.0"}, "started": "2026-11-21T08:00:00+00:00", "resumed": [],
    "summary": {"validation": {"p": 0.005}},
}  # fmt: skip
OLD_SIDE = {
    "format": "workbench-head-scores", "version": 1, "shape": [1, 2], "method": "retrieval/distinct", "parameters": {},
    "model": {"name": "llama", "config_hash": "c", "weights": "w"}, "groups": None, "kv_heads": 1, "skipped_layers": [],
    "clip": None, "n": 2, "tiebreak": None,
}  # fmt: skip
OLD_CIRCUIT = {
    "format": "workbench-circuit-1", "model": {"name": "gpt2", "config_hash": "c", "weights": "w"}, "n_layers": 1,
    "n_heads": 2, "task": "ioi", "corruption": "ABC", "n": 4, "clean": 3.0, "corrupted": 0.5, "accuracy": 1.0,
    "stages": [{"depth": 1, "channel": "resid", "label": "END", "receivers": [], "gap": 1.0}],
    "heads": [{"head": [0, 1], "stage": "1 logits@END", "share": 0.5, "low": 0.4, "high": 0.6, "role": "x", "evidence": {}}],
    "edges": [], "needed": [[0, 1]], "ranking": [[[0, 1], 0.5], [[0, 0], 0.0]], "settings": {},
}  # fmt: skip
OLD_METRICS = {
    "format": "workbench-head-metrics", "version": 1, "model": "llama", "kv_heads": 1, "about": {}, "texts": [],
    "metrics": [{"name": "a", "title": "A", "help": "", "headvis": None, "values": [[0.5, None]]}],
}  # fmt: skip


@pytest.fixture
def old(tmp_path):
    """A run folder of the first layout, every kind of file in it."""
    folder = tmp_path / "old"
    folder.mkdir()
    files = {
        "run.json": OLD_RUN, "scores.json": {"0-0": [0.5, 0.25], "0-1": [0, 1]}, "scores.meta.json": OLD_SIDE,
        "circuit.json": OLD_CIRCUIT, "metrics.json": OLD_METRICS, "heads.json": {"heads": [[0, 1]], "beta": 0.4},
    }  # fmt: skip
    for name, held in files.items():
        (folder / name).write_text(json.dumps(held))
    return folder


READERS = {
    "run.json": read_run, "scores.meta.json": read_scores, "circuit.json": read_circuit, "metrics.json": read_metrics,
    "heads.json": lambda folder: read_heads(folder / "heads.json"),
}  # fmt: skip


@pytest.mark.parametrize("number", [1, 0, None])
def test_earlier_layouts_are_read(old, number):
    """As they were, or with the number taken away from run.json."""
    record = {k: v for k, v in OLD_RUN.items() if k != "schema"} | ({} if number is None else {"schema": number})
    (old / "run.json").write_text(json.dumps(record))
    scores = read_scores(old)
    np.testing.assert_array_equal(scores.per_sample, [[[0.5, 0]], [[0.25, 1]]])
    assert scores.model is not None and scores.model.name == "llama" and scores.kv_heads == 1
    assert read_run(old)["summary"] == OLD_RUN["summary"]
    assert read_circuit(old).carrying == ((0, 1),) and read_circuit(old / "circuit.json").clean == 3.0
    np.testing.assert_array_equal(read_metrics(old).metrics[0].values, [[0.5, np.nan]])
    assert [tuple(h) for h in read_heads(old / "heads.json")] == [(0, 1)]
    assert about_list(old / "heads.json") == {"beta": 0.4}


@pytest.mark.parametrize("name", READERS)
def test_later_layouts_are_refused_with_who_wrote_them_and_what_to_do(old, name):
    held = json.loads((old / name).read_text())
    (old / name).write_text(json.dumps(held | {"schema": SCHEMA + 1, "workbench": "7.8.9"}))
    with pytest.raises(BadInput) as caught:
        READERS[name](old)
    said = str(caught.value)
    assert f"{name} has layout {SCHEMA + 1}, written by workbench 7.8.9" in said and "\n" not in said
    assert f"this is {wb.__version__} and reads up to {SCHEMA}" in said and "update workbench" in said


@pytest.mark.parametrize(
    "words",
    [["export", "old", "format=scores-json"], ["compare", "old", "old"], ["simulate", "heads=old"],
     ["fit-windows", "heads=old"], ["choose-cut", "old"]],
    ids=" ".join,
)  # fmt: skip
def test_every_command_that_opens_a_folder_refuses_a_later_one(old, monkeypatch, capsys, words):
    later = {"schema": SCHEMA + 1, "versions": {"workbench": "7.8.9"}, "question": "laid out in another way"}
    (old / "run.json").write_text(json.dumps(later))
    (old / "circuit.json").unlink()
    monkeypatch.chdir(old.parent)
    assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert "layout" in said and "7.8.9" in said and "\n" not in said


def test_a_run_of_an_earlier_layout_is_resumed_and_one_of_a_later_is_left_alone(tmp_path):
    with Run.open(tmp_path, "scan-heads", "llama", {"model": "llama"}) as run:
        run.save("a", {"x": np.arange(3.0)})
    file = run.path / "run.json"
    held = json.loads(file.read_text())
    assert held["schema"] == SCHEMA and held["versions"]["workbench"] == wb.__version__
    file.write_text(json.dumps({k: v for k, v in held.items() if k != "schema"}))
    with Run.open(tmp_path, "scan-heads", "llama", {"model": "llama"}) as again:
        assert again.resumed and again.done() == {"a"}
    assert read_run(run.path)["schema"] == SCHEMA
    later = json.dumps(held | {"schema": SCHEMA + 1})
    file.write_text(later)
    with pytest.raises(RunError, match="update workbench"):
        Run.open(tmp_path, "scan-heads", "llama", {"model": "llama"})
    assert file.read_text() == later and not (run.path / "lock").exists()


def test_all_that_is_read_back_says_its_layout(tmp_path):
    scores = HeadScores(np.random.default_rng().random((2, 4)), "x", kv_heads=2)
    side = json.loads(score_files(scores)["scores.meta.json"])
    export(scores, "duo-attention", tmp_path, sparsity=0.5)
    facts = json.loads((tmp_path / "provenance.json").read_text())
    heads, metrics = json.loads(head_list([(0, 1)], {})), HeadMetrics("m", (Metric("a", "A", "", scores.values),))
    for held in (side, scores.to_json(), facts, heads, metrics.to_json()):
        assert {k: held[k] for k in stamp()} == stamp() == {"schema": SCHEMA, "workbench": wb.__version__}
    (tmp_path / "provenance.json").write_text(json.dumps(facts | {"schema": SCHEMA + 1}))
    with pytest.raises(BadInput, match="provenance.json has layout"):
        read_scores(tmp_path)


@pytest.mark.parametrize("number", [True, -1, 1.0, "2", None, [2]])
def test_a_number_that_is_none_is_damage(number):
    with pytest.raises(BadInput, match="run.json is damaged: its schema"):
        schema_of({"schema": number}, "run.json")


def test_who_wrote_it_is_told_in_one_short_line():
    for told in ({}, {"workbench": 3}, {"versions": None}, {"workbench": "a\n" * 99}, {"versions": {"workbench": 1}}):
        with pytest.raises(BadInput) as caught:
            schema_of({"schema": SCHEMA + 1, **told}, "x")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
