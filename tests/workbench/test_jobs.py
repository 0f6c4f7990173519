"""Work begins and ends alike: model, folder, record, cost, notes of what was damaged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chz
import numpy as np
import pytest

import workbench as wb
from workbench.command import Command
from workbench.errors import RunError, Unsupported
from workbench.jobs import Job
from workbench.model_options import AttendingOptions
from workbench.reported import OfCommand
from workbench.spreading import Unit


@chz.chz
class Ask(AttendingOptions):
    model: str = "planted-copy"
    k: int = 3
    device: str | None = "cpu"
    out: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Found(OfCommand):
    typed = Command("find", "finds", Ask, lambda config: work(config))

    config: Ask
    model_label: str
    cost: dict[str, float]
    path: str | None
    value: float
    error: str | None = None  # pyright: ignore
    verdict = "found"

    def page(self) -> str:
        return "<p>found</p>"

    def summary(self) -> dict[str, Any]:
        return {"value": self.value}

    def __rich__(self) -> str:
        return self.verdict


@pytest.fixture(scope="module")
def model():
    return wb.load("planted-copy")


def work(config: Ask, model: Any = None, seen: list[str] | None = None, error: str | None = None) -> Found:
    job = Job(config, model)

    def unit() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        (seen if seen is not None else []).append(job.model.backend)
        return {"x": np.array([1.5])}, {}

    with job.running("find", config.question_asked()) as stages:
        assert stages is job.stages
        value = float(job.remember("one", unit)[0]["x"][0])
        result = Found(config, job.model.label, job.cost(looking=1.0), job.path, value, error)
        job.keep(result, lambda found, run: run.write_json("found.json", found.value) and None)
    return result


def record(result: Found) -> dict[str, Any]:
    assert result.path is not None
    return json.loads((Path(result.path) / "run.json").read_text())


def test_without_a_folder_nothing_is_written(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = work(Ask(), model)
    assert result.path is None and result.value == 1.5 and not list(tmp_path.iterdir())
    assert set(result.cost) == {"looking", "seconds", "peak_memory_mib"}


def test_a_folder_holds_files_report_and_record_and_is_resumed(model, tmp_path):
    seen: list[str] = []
    first, again = (work(Ask(out=str(tmp_path), backend="chunked"), model, seen) for _ in range(2))
    assert seen == ["chunked"] and again.value == first.value and model.backend == "auto"
    assert {p.name for p in Path(first.path or "").iterdir()} >= {"found.json", "report.html", "run.json", "shards"}
    said = record(again)
    assert said["state"] == "done" and said["summary"] == {"value": 1.5} and said["backend"] == "chunked"
    assert said["question"]["identity"] == list(model.identity()) and said["question"]["k"] == 3
    assert said["cost"]["unit_seconds"] > 0 and "error" not in said


def test_a_damaged_shard_is_told_and_redone(model, tmp_path, capsys):
    seen: list[str] = []
    config = Ask(out=str(tmp_path))
    first = work(config, model, seen)
    next((Path(first.path or "") / "shards").iterdir()).write_bytes(b"x")
    work(config, model, seen)
    assert len(seen) == 2 and "note: shard one" in " ".join(capsys.readouterr().err.split())


def test_a_result_with_an_error_leaves_a_failed_record(model, tmp_path):
    result = work(Ask(out=str(tmp_path)), model, error="quality: no room")
    said = record(result)
    assert result.exit_code == 1 and said["state"] == "failed" and said["error"] == "quality: no room"
    assert said["summary"] == {"value": 1.5} and record(work(Ask(out=str(tmp_path)), model))["state"] == "done"


def test_what_raises_inside_gives_backend_and_folder_back(model, tmp_path):
    job = Job(Ask(out=str(tmp_path), backend="hooks"), model)
    with pytest.raises(ZeroDivisionError), job.running("find", {}):
        assert model.backend == "hooks"
        with pytest.raises(RunError, match="being written"), Job(Ask(out=str(tmp_path)), model).running("find", {}):
            raise AssertionError
        raise ZeroDivisionError("oh")
    assert model.backend == "auto" and json.loads((Path(job.path or "") / "run.json").read_text())["state"] == "failed"
    with Job(Ask(out=str(tmp_path)), model).running("find", {}):
        pass


def test_a_backend_that_cannot_work_there_is_refused_at_once(model, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(Unsupported, match="triton cannot"):
        Job(Ask(backend="triton"), model)


def test_a_model_is_loaded_by_its_name():
    job = Job(Ask())
    assert job.model.name == "planted-copy" and job.identity.config_hash == job.model.identity()[0]


@pytest.mark.parametrize("folder", [False, True])
def test_units_are_done_one_by_one_in_order_and_no_further_than_asked(model, tmp_path, folder):
    done: list[int] = []

    def unit(i: int) -> Unit:
        return Unit(str(i), lambda: (done.append(i), ({"x": np.array([i])}, {"i": i}))[1])

    job = Job(Ask(out=str(tmp_path) if folder else None), model)
    with job.running("find", {}):
        gave = job.spread(unit(i) for i in range(9))
        assert [(int(arrays["x"][0]), meta["i"]) for arrays, meta in (next(gave) for _ in range(3))] == [
            (i, i) for i in range(3)
        ]
    assert done == [0, 1, 2] and job.part_done is None
