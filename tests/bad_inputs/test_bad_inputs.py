"""Whatever a user gives wrong is one line and exit code 1 or 2, with nothing written and nothing lost."""

from __future__ import annotations

import signal

import pytest
from bad_inputs import CASES, SCORES, Case

from workbench.cli import main

LONGEST = 5.0
"""Seconds of the processor that a refusal may take."""


@pytest.fixture(autouse=True)
def in_time():
    """A case that goes to work instead of being refused fails."""

    def too_long(*_):
        raise TimeoutError("not refused, or after much work")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_line_and_nothing_lost(case: Case, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    case.lay_out(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    code = main(case.words)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.strip()]
    assert code in (1, 2) and out == "", (code, out, err)
    said = lines[-1] if lines else ""
    assert said.startswith("error: ") and case.says in said, err
    assert len(lines) == 1 and "Traceback" not in err and len(said) < 800, err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_negative_control_the_same_words_without_the_fault_are_answered(tmp_path, monkeypatch, capsys):
    """A command that refuses everything would pass all of the above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(SCORES)
    assert main(["compare", "a.json", "a.json"]) == 0
    assert main(["export", "a.json", "format=scores-json", "out=x"]) == 0 and (tmp_path / "x").is_dir()
    assert main(["models"]) == main(["formats"]) == 0 and "error" not in capsys.readouterr().err


def test_there_are_many_and_each_has_its_name():
    assert len({case.name for case in CASES}) == len(CASES) >= 200
