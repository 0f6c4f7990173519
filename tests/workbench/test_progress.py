"""Progress where stderr is no terminal: a line per tenth, no control characters, whatever the environment says."""

from __future__ import annotations

import pytest

from workbench import progress as module
from workbench.progress import counting, progress


def test_it_tells_a_line_per_tenth(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks set it
    with progress() as stages:
        report = stages.stage("needles")
        for done in range(101):
            report(done, 100)
        stages.note("[bold]kept[/]")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 12 and "\x1b" not in err
    assert lines[0].startswith("needles: 1 of 100, ") and lines[-2].startswith("needles: 100 of 100, ")
    assert "left" in lines[0] and "left" not in lines[-2] and lines[-1] == "[bold]kept[/]"


def test_work_that_is_done_at_once_says_so_once(capsys):
    with progress() as stages:
        stages.stage("proof")(1, 1)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_loaded_ipykernel_is_no_notebook_yet(capsys):
    import ipykernel  # noqa: F401

    with progress() as stages:
        stages.stage("proof")(1, 1)
    assert capsys.readouterr().out == ""


def test_counting_tells_how_far_it_is_only_if_that_takes_long(capsys, monkeypatch):
    assert list(counting("texts drawn", 5)) == [0, 1, 2, 3, 4] and list(counting("texts drawn", 0)) == []
    assert capsys.readouterr() == ("", "")
    clock, busy = iter(range(1000)), iter(range(1000))
    monkeypatch.setattr(module, "PATIENCE", 40)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(module.time, "process_time", lambda: next(busy))
    assert list(counting("texts drawn", 100)) == list(range(100))
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 7 and lines[0] == "texts drawn: 41 of 100, 1 s, about 1 s left"
    assert lines[-1].startswith("texts drawn: 100 of 100, ")


def test_counting_says_it_in_the_middle_of_a_stage(capsys, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", -1)
    with progress() as stages:
        report, counted = stages.stage("needles"), counting("texts drawn", 1)
        report(next(counted) + 1, 1)
        with pytest.raises(StopIteration):
            next(counted)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "needles: 1 of 1",
        "texts drawn: 1 of 1",
    ]
