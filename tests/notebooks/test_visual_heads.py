"""notebooks/visual_heads.ipynb: a file each, so that they run side by side."""

from __future__ import annotations

from pathlib import Path

from notebook_files import runs, saved


def test_what_is_saved_is_complete_and_small():
    saved(Path(__file__))


def test_it_runs(tmp_path):
    runs(Path(__file__), tmp_path)
