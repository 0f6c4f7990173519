"""docs/benchmarks.md is what the results say: written anew it is the same, and it shows what was missed or not measured."""

from __future__ import annotations

import importlib.util
import json

import doc_pages
import pytest

HOME = doc_pages.ROOT / "tests" / "benchmarks"


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """The script, with a benchmark of our own beside it."""
    spec = importlib.util.spec_from_file_location("benchmark_tables", HOME / "benchmark_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "ours.py").write_text('"""How long it takes. Run: python ours.py"""\nmeasure.keep("ours", [], [])\n')
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_the_page_is_what_the_script_writes(tables, monkeypatch):
    monkeypatch.setattr(tables, "HERE", HOME)
    monkeypatch.setattr(tables, "ROOT", doc_pages.ROOT)
    again = "it is not what the results say: python tests/benchmarks/benchmark_tables.py"
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page(), again
    kept = {path.stem for path in (HOME / "results").glob("*.json")}
    assert kept <= set(tables.scripts()) and "**Not measured**" in tables.section("x", HOME / "triton_attention.py")


def test_figures_come_as_they_are(tables, tmp_path):
    assert "**Not measured**" in tables.page() and "How long it takes (`python ours.py`)." in tables.page()
    spread = {"min": 0.01234, "median": 2.0, "max": 1234.5}
    rows = [
        {"complete": False}, {"work": "a|b", "seconds": spread, "target": 2, "met": False, "list": [1, 2.5]},
        {"work": "c_d", "seconds": spread, "target": None, "met": None, "list": []},
        {"other": True, "none": None, "points": [{"x": 1e-7}, {"x": 12345678}]},
    ]  # fmt: skip
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "ours.json").write_text(json.dumps({"date": "2026-01-02T03:04:05+00:00", "figures": rows}))
    page = tables.page()
    assert "2026-01-02 03:04 UTC. **Not complete**: cut off before its end. 0 of 1 goals met." in page
    assert "| work | seconds | target | met | list |" in page
    assert "| a\\|b | 2 (0.0123–1,234) | 2 | **missed** | 1, 2.5 |" in page
    assert "| c d | 2 (0.0123–1,234) | – | – |  |" in page
    assert "| other |\n| --- |\n| yes |" in page and "points:\n\n| x |\n| --- |\n| 1e-07 |\n| 12,345,678 |" in page
