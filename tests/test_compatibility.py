"""The oldest libraries that pyproject.toml allows are those that were tested."""

from __future__ import annotations

import json

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from .compatibility import ENDS, FILES, KEPT, ROOT, constraints, lower, main, required

HELD = json.loads(KEPT.read_text()) if KEPT.exists() else {}


def held(end):
    """What was kept of an end."""
    assert end in HELD, f"never run: python tests/compatibility.py {end}"
    return HELD[end]


@pytest.mark.parametrize("one", required(), ids=lambda one: one.name)
def test_every_lower_bound_was_tested(one):
    found = held("oldest")["versions"].get(one.name)
    assert found is not None and Version(found) == lower(one), "run python tests/compatibility.py oldest"


@pytest.mark.parametrize("end", ENDS)
def test_both_ends_passed_and_the_page_says_with_what(end):
    page = (ROOT / "docs" / "compatibility.md").read_text()
    assert held(end)["passed"], HELD[end]["tests"]
    assert HELD[end]["tests"] in page and HELD[end]["date"] in page
    rows = {line.split(" | ")[0].strip("| `"): line for line in page.splitlines() if line.startswith("| ")}
    for name, number in HELD[end]["versions"].items():
        assert f" {number} " in rows[name], (name, number)


def test_bounds_become_constraints():
    lines = constraints("oldest").splitlines()
    assert "torch==2.9" in lines and len(lines) == len(required()) and constraints("newest") == ""
    assert lower(Requirement("x>=1.5,<2")) == Version("1.5")
    for text in ("x", "x<2", "x==3"):
        with pytest.raises(ValueError, match="lower bound"):
            lower(Requirement(text))


def test_what_it_runs_is_there_and_other_words_are_refused(capsys):
    assert all((ROOT / "tests" / name).is_file() for name in FILES)
    assert main([]) == main(["middle"]) == main(["oldest", "a", "b"]) == 2
    assert "Run: python tests/compatibility.py" in capsys.readouterr().err
