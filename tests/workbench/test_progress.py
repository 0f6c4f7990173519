"""Progress where stderr is no terminal: a line per tenth, no control characters, whatever the environment says."""

from __future__ import annotations

from workbench.progress import progress


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
