"""A run says what could make its digits differ, and keeps to the budget of memory that its command was given."""

from __future__ import annotations

import json

import chz
import numpy as np
import pytest
import torch

import workbench as wb
from workbench.errors import BadInput
from workbench.jobs import Job
from workbench.model_options import BudgetedOptions


@chz.chz
class Ask(BudgetedOptions):
    model: str = "planted-copy"
    device: str | None = "cpu"


def look(config, model, seen):
    """The record of a run."""
    job = Job(config, model)
    with job.running("look", config.question_asked()):
        seen.append(model.memory)
        job.remember("one", lambda: ({"x": np.array([1.0])}, {}))
        assert job.run is not None
        job.run.finish({}, job.cost())
        for warning in job.run.warnings:
            job.stages.note(warning)
    return json.loads((job.run.path / "run.json").read_text())


def test_a_run_says_what_could_make_its_digits_differ(tmp_path, capsys):
    model, seen = wb.load("planted-copy"), []
    first = look(Ask(out=str(tmp_path), memory="3GB"), model, seen)
    assert seen == ["3GB"] and model.memory is None and "memory" not in first["question"]
    there = first["conditions"]
    assert (there["dtype"], there["device"], there["threads"]) == ("float32", "cpu", torch.get_num_threads())
    assert {"deterministic_algorithms", "float32_matmul_precision", "cpu", "mkldnn"} <= there.keys()
    assert {"torch", "transformers", "tokenizers", "numpy"} <= first["versions"].keys()
    assert "conditions" not in capsys.readouterr().err
    torch.use_deterministic_algorithms(True)
    try:
        look(Ask(out=str(tmp_path)), model, seen)
    finally:
        torch.use_deterministic_algorithms(False)
    said = [line for line in capsys.readouterr().err.splitlines() if "conditions" in line]
    assert len(said) == 1 and said[0].endswith("deterministic_algorithms False, now True, memory 3GB, now None")
    assert seen == ["3GB", None]
    (file,) = tmp_path.glob("*/run.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"conditions": {"cpu": "\x1b[2J"}}))
    look(Ask(out=str(tmp_path)), model, seen)
    said = capsys.readouterr().err
    assert "cpu \\x1b[2J, now" in said and "\x1b[2J" not in said, "a file commands no terminal"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"conditions": ["damaged"]}))
    assert look(Ask(out=str(tmp_path)), model, seen)["conditions"] == there | {"memory": None}


@chz.chz
class AskSome(Ask):
    batch: int = 8


def test_what_is_computed_together_is_a_condition_and_no_session_is_forgotten(tmp_path, capsys):
    model, notes = wb.load("planted-copy"), []
    for batch in (8, 8, 4, 4, 2):
        record = look(AskSome(out=str(tmp_path), batch=batch), model, [])
        said = [line for line in capsys.readouterr().err.splitlines() if "conditions" in line]
        notes.append([line.rpartition("differ: ")[2] for line in said])
    assert notes == [[], [], ["batch 8, now 4"], ["batch 8, now 4"], ["batch 8 and 4, now 2"]]
    assert [one["conditions"]["batch"] for one in record["also_made_with"]] == [8, 4]
    assert record["conditions"]["batch"] == 2 and record["conditions"]["memory"] is None
    (file,) = tmp_path.glob("*/run.json")
    usual = {name: x for name, x in record["conditions"].items() if name not in ("batch", "memory")}
    file.write_text(json.dumps(record | {"conditions": usual, "also_made_with": []}))
    look(AskSome(out=str(tmp_path)), model, [])
    assert "conditions" not in capsys.readouterr().err, "older versions recorded neither"


def test_a_budget_is_an_amount():
    with pytest.raises(BadInput, match="memory=lots: give an amount"):
        Ask(memory="lots")
