"""Every notebook has a test file of its name here."""

from __future__ import annotations

from pathlib import Path

from notebook_files import FOLDER


def test_every_notebook_is_run():
    names = {path.stem for path in FOLDER.glob("*.ipynb")}
    tested = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")} - {"notebooks"}
    assert names == tested, "copy a test file of another notebook under the new one's name"
