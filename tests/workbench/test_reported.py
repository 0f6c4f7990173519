"""What all results share: a page, a line, a command line, and an exit code that follows from an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import chz
import pytest

from workbench.command import Command
from workbench.reported import OfCommand, Reported


@chz.chz
class Ask:
    model: str = "llama"
    k: int = 3
    batch: int = 8


@dataclass(frozen=True, eq=False, repr=False)
class Found(OfCommand):
    typed = Command("find", "finds", Ask, lambda config: found(config))

    config: Ask
    model_label: str
    cost: dict[str, float]
    path: str | None = None
    broken: str | None = None

    @property
    def verdict(self) -> str:
        return "NOT found"

    @property
    def error(self) -> str | None:
        return self.broken

    def page(self) -> str:
        return "<p>é</p>"

    def summary(self) -> dict[str, Any]:
        return {"verdict": self.verdict}

    def __rich__(self) -> str:
        return self.verdict


def found(config: Ask, **more: Any) -> Found:
    return Found(config, "a model", {}, **more)


def test_the_report_is_given_and_written_where_a_path_is_named(tmp_path):
    result = found(Ask())
    assert result.report() == result.report(tmp_path / "r.html") == "<p>é</p>"
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == "<p>é</p>"
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_it_is_said_in_a_line():
    assert repr(found(Ask())) == "Found(a model: NOT found)"

    class Bare(Reported):
        verdict = "yes"
        page = summary = lambda self: ""  # pyright: ignore

    assert repr(Bare()) == "Bare(yes)"


def test_the_command_line_says_what_differs_and_what_it_always_says():
    assert found(Ask(k=4, batch=2)).command == "workbench find model=llama k=4"
    shorter = type("Shorter", (Found,), {"always": (), "aside": ("k",)})
    assert shorter(Ask(k=4, batch=2), "a model", {}).command == "workbench find batch=2"


def test_an_error_is_bad_news():
    assert found(Ask()).exit_code == 0 and found(Ask(), broken="no room").exit_code == 1


def test_a_result_without_a_page_cannot_be_made():
    with pytest.raises(TypeError, match="page"):
        type("Half", (Reported,), {"verdict": "", "summary": lambda self: {}})()
