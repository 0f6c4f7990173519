"""What a built wheel holds: three packages, their data and nothing from the tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(zipfile.ZipFile(next(out.glob("workbench_interp-*.whl"))).namelist())


def test_it_holds_every_tracked_file_of_the_packages(names):
    sources = {"workbench": ROOT, "workbench_analyses": ROOT / "analyses", "workbench_kernels": ROOT / "kernels"}
    for package, source in sources.items():
        files = [f for f in (source / package).rglob("*") if f.is_file() and "__pycache__" not in f.parts]
        assert len(files) > 3
        missing = {f.relative_to(source).as_posix() for f in files} - names
        assert not missing, missing


def test_it_holds_nothing_else(names):
    tops = {name.split("/")[0] for name in names}
    assert tops - {name for name in tops if name.endswith(".dist-info")} == {
        "workbench", "workbench_analyses", "workbench_kernels",
    }  # fmt: skip
