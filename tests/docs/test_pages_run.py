"""README and docs as written: every block of Python runs, and every command can be meant."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import Any

import doc_pages
import pytest
from workbench_analyses.retrieval import proof

import workbench as wb
from workbench.discovery import commands
from workbench.options import parse

ADDED = [page for page in doc_pages.PAGES if page.stem.startswith("add-")]
"""Run in test_additions, with what must come out."""
RUN = [p for p in doc_pages.PAGES if p not in ADDED and any(block.runs for block in doc_pages.blocks(p))]
COMES_OUT = {
    "retrieval": lambda page: len(page["scan"].scores.at_least(0.1)) == 3,
    "sinks": lambda page: len(page["scan"].parked) == 10,
    "views": lambda page: 20_000 < Path("patterns.html").stat().st_size < 1_000_000,
    "getting-started": lambda page: "amber coral moss willow" in page["said"] and page["masked"] != page["said"],
}
"""What a page says of its own figures."""
_scan, _trace = wb.analyses.retrieval_heads.scan, wb.analyses.trace_circuit.trace


@functools.cache
def small_scan() -> Any:
    """Nine needles and a proof of few draws, made once for all pages."""
    return _scan("llama", lengths=(128,), depths=(0, 50, 100), rounds=3, until=None)


@pytest.fixture
def small(monkeypatch):
    """The analyses that pages call with their defaults, at a size that takes seconds."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, value in {"SAMPLES": 4, "STEPS": (1, 4), "DRAWS": {"default": (2, 1)}, "PROSE": (2, 64)}.items():
        monkeypatch.setattr(proof, name, value)
    scan = lambda model, **options: _scan(model, **options) if options else small_scan()  # noqa: E731
    trace = functools.partial(_trace, samples=16, explore=4, edges=False, quality="none")
    monkeypatch.setattr(wb.analyses.retrieval_heads, "scan", scan)
    monkeypatch.setattr(wb.analyses.trace_circuit, "trace", trace)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page, small, tmp_path, monkeypatch):
    names = doc_pages.run(page, tmp_path, monkeypatch)
    assert COMES_OUT.get(page.stem, bool)(names)


@pytest.mark.parametrize("page", doc_pages.PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_can_be_meant(page):
    known = commands()
    for line in doc_pages.commands(page):
        name, *words = shlex.split(line)[1:]
        if "--help" in (name, *words):
            continue
        assert name in known, line
        if words:  # a name alone mentions the command
            parse(known[name], words)


def test_what_is_wrong_on_a_page_is_found(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "```\nworkbench scan-heads modle=llama   # a word\n```\n\n```python\nx = 1\n```\n\n```python\nx / 0\n```\n"
    )
    assert doc_pages.commands(page) == ["workbench scan-heads modle=llama"]
    with pytest.raises(ZeroDivisionError):
        doc_pages.run(page, tmp_path, monkeypatch)
    page.write_text("```python\n# not run:\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError):
        doc_pages.run(page, tmp_path, monkeypatch)
    page.write_text("```python\n# not run: needs a network\n1 / 0\n```\n")
    assert set(doc_pages.run(page, tmp_path, monkeypatch)) == {"__name__"}
