"""What holds of every notebook: it runs from top to bottom; what is saved in it is complete, small and asks no network."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
LARGEST = 300_000


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def notebook_of(test: Path) -> Path:
    """The notebook that a test file is named after."""
    return FOLDER / f"{test.stem.removeprefix('test_')}.ipynb"


def saved(test: Path) -> None:
    path = notebook_of(test)
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.execution_count for cell in code), "run it: jupyter nbconvert --execute --inplace"
    assert path.stat().st_size <= LARGEST
    kinds = {output.output_type for output in outputs(notebook)}
    assert "error" not in kinds and "display_data" in kinds, "it ends in something to look at"
    assert "widget-view" not in path.read_text(), "a saved widget shows nothing"
    held = json.dumps([o.get("data", {}).get("text/html", "") for o in outputs(notebook)])
    assert "http://" not in held.replace("http://www.w3.org/", "") and "https://" not in held


def runs(test: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(notebook_of(test), as_version=4)
    before = [len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    after = [sum(o.output_type != "stream" or o.name != "stderr" for o in cell.outputs)
             for cell in notebook.cells if cell.cell_type == "code"]  # fmt: skip
    assert all(bool(a) == bool(b) for a, b in zip(after, before, strict=True))
    assert not list(tmp_path.iterdir()), "it leaves no files behind"
