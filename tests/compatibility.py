"""The oldest and the newest libraries that pyproject.toml allows, tested. Run: python tests/compatibility.py END [FOLDER]

END: oldest or newest.

Makes an environment of its own in FOLDER (a temporary one unless named; one that is there is used again), installs the
project there from its wheel, at `oldest` with every dependency at its lower bound, and runs the tests that would show a
library that does not do. The versions and the outcome are kept in compatibility.json beside this file and written into
docs/compatibility.md. Python is the one that runs this script. uv's own settings hold: with UV_TORCH_BACKEND=cpu no GPU
libraries are fetched, with UV_FIND_LINKS wheels of a folder are taken, too.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
KEPT = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "compatibility.md"
MARKS = "<!-- tested -->\n", "<!-- end of tested -->"
ENDS = ("oldest", "newest")
EXTRAS = ("gpu", "vision")
TOOLS = ("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6", "packaging")
FILES = (
    "analyses/test_retrieval_scan.py", "workbench/test_architectures.py", "workbench/test_activation_patching.py",
    "workbench/test_cli_process.py", "workbench/test_views.py", "workbench/test_vision.py", "workbench/test_exporters.py",
    "workbench/test_scores_io.py", "workbench/test_runs.py", "workbench/test_validation.py", "workbench/test_rouge.py",
    "kernels/test_attend.py",
)  # fmt: skip
"""A scan, models against Hugging Face, patching against naive hooks, files, figures, pictures, attention against float64."""


def required() -> list[Requirement]:
    """What the package and the extras under test need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for name in EXTRAS for line in project["optional-dependencies"][name])]
    return [Requirement(line) for line in lines]


def lower(one: Requirement) -> Version:
    """The version that a requirement begins with. Raises ValueError where it names none."""
    found = [s.version for s in one.specifier if s.operator == ">="]
    if len(found) != 1:
        raise ValueError(f"{one}: one lower bound is needed, or nobody knows what is supported")
    return Version(found[0])


def constraints(end: str) -> str:
    """Text for pip's --constraint."""
    return "".join(f"{one.name}=={lower(one)}\n" for one in required()) if end == "oldest" else ""


def install(python: Path, folder: Path, end: str) -> None:
    """The project and what its tests need, by uv, which finds versions that fit in seconds. Raises CalledProcessError."""
    limits = folder / "constraints.txt"
    limits.write_text(constraints(end))
    subprocess.run([python, "-m", "pip", "install", "-q", "uv"], check=True)
    uv = [python.parent / "uv", "pip", "install", "--python", python, "--reinstall-package", "workbench-interp"]
    upgrade = ["--upgrade"] if end == "newest" else []
    subprocess.run([*uv, *upgrade, "-c", limits, f"{ROOT}[{','.join(EXTRAS)}]", *TOOLS], check=True)


def versions(python: Path) -> dict[str, str]:
    """What is installed of all that is required."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    names = [one.name for one in required()]
    told = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout
    return dict(zip(names, told.split(), strict=True))


def tested(python: Path, files: tuple[str, ...] = FILES) -> tuple[bool, str]:
    """Whether the tests pass, and pytest's last line. They run the installed wheel, not the checkout."""
    env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    words = [
        python.parent / "pytest",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist",
        "loadfile",
        *(ROOT / "tests" / name for name in files),
    ]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    assert run.stdout is not None
    last = ""
    for line in run.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    return run.wait() == 0, re.sub(r" in [\d.]+s.*", "", last.strip("= "))


def keep(end: str, found: dict[str, Any]) -> None:
    """Into the file, beside the other end, and into the page."""
    held = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    held = {**held, end: found}
    KEPT.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    new = f"{MARKS[0]}{table(held)}\n{MARKS[1]}"
    PAGE.write_text(re.sub(f"{MARKS[0]}.*?{MARKS[1]}", lambda _: new, PAGE.read_text(), flags=re.DOTALL))


def table(held: dict[str, Any]) -> str:
    """What was tested with what, in Markdown."""
    ends = [held.get(end, {}) for end in ENDS]
    rows = [["", "`pyproject.toml`", *ENDS], ["---"] * 4]
    rows += [
        [f"`{one.name}`", f"`{one.specifier}`", *(e.get("versions", {}).get(one.name, "–") for e in ends)]
        for one in required()
    ]
    rows += [
        ["Python", "", *(e.get("python", "–") for e in ends)],
        ["tests", "", *(e.get("tests", "not run") for e in ends)],
    ]
    rows += [["date", "", *(e.get("date", "–") for e in ends)]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(words: list[str]) -> int:
    """One end; 0 if all tests pass there."""
    if words[:1] not in [[end] for end in ENDS] or len(words) > 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(words[1] if len(words) > 1 else tempfile.mkdtemp(prefix=f"workbench-{words[0]}-")).resolve()
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    install(python, folder, words[0])
    found = versions(python)
    print(*(f"{name} {number}" for name, number in found.items()), sep="\n", flush=True)
    passed, told = tested(python)
    when, interpreter = datetime.now(UTC).date().isoformat(), platform.python_version()
    keep(words[0], {"date": when, "python": interpreter, "versions": found, "passed": passed, "tests": told})
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
