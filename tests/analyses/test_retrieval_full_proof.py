"""`proof=full` from end to end on the planted model, in small: what it adds, where it shows, that it resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from workbench_analyses.retrieval import proof
from workbench_analyses.retrieval.claims import claims

import workbench as wb
from workbench.reasoning import Harm, Reasoning
from workbench.reference_models.catalogue import PLANTED

OPTIONS = {"lengths": (112,), "depths": (0.0, 30.0, 60.0), "rounds": 2, "until": None, "proof": "full", "recent": 32}


@pytest.fixture(scope="module")
def small():
    """Few samples and draws: the figures are tested elsewhere."""
    patch = pytest.MonkeyPatch()
    for name, value in {"SAMPLES": 6, "DRAWS": {"full": (5, 2)}, "CURVE_DRAWS": 3, "STEPS": (1,)}.items():
        patch.setattr(proof, name, value)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def full(small, tmp_path_factory):
    model = wb.load("planted-copy")
    return wb.analyses.retrieval_heads.scan(model, out=str(tmp_path_factory.mktemp("runs")), **OPTIONS), model


def shown(scan) -> str:
    text = StringIO()
    Console(file=text, width=200).print(scan)
    return text.getvalue()


def test_the_list_is_enough_and_random_heads_are_not(full):
    scan, _ = full
    kept = scan.proved.keeping
    assert set(scan.scores.at_least(0.1)) == set(PLANTED["planted-copy"].roles["copy"])
    assert [p.k for p in kept.points] == [1, 3] and kept.recent == 32 and kept.n == 6
    assert [p.top for p in kept.points] == [1.0, 1.0] and kept.none == 0.0 and max(kept.points[1].matched) == 0.0
    assert len(kept.points[1].matched) == 5 and len(kept.points[0].matched) == 3, "more draws at the list's own length"
    qs = [p.q for part in (scan.validation, kept) for p in part.points]
    assert all(q is not None for q in qs)
    said = {c.name: c for c in claims(scan)}
    assert said["sufficient"].answer == "no" and "5 draws, p = 0.167" in said["sufficient"].evidence, "too few draws"
    assert said["reasoning"].answer == "not testable" and "vocabulary" in said["reasoning"].evidence


def test_everything_shows(full):
    scan, _ = full
    text, page = shown(scan), Path(scan.path, "report.html").read_text()
    for words in ("K = 1 full heads are enough", "not scored: the vocabulary lacks words of the problems"):
        assert words in text and words in page
    assert "heads kept full (K)" in page and "QRHead" in page and "QRHead: best" in text
    record = json.loads(Path(scan.path, "run.json").read_text())["summary"]
    assert record["kept"]["enough_at"] == 1 and record["reasoning"]["not_scored"]


def test_it_resumes_from_its_units(full, monkeypatch):
    scan, model = full
    log = Path(scan.path, "progress.jsonl")
    units = {json.loads(line)["unit"].split("-")[0] for line in log.read_text().splitlines()}
    assert {"proof", "keep"} <= units
    before = log.read_text()
    again = wb.analyses.retrieval_heads.scan(model, out=str(Path(scan.path).parent), **OPTIONS)
    assert again.proved == scan.proved and log.read_text() == before, "no unit was done twice"


def test_a_window_that_holds_every_needle_is_said(full):
    scan, _ = full
    none = replace(scan, proved=replace(scan.proved, keeping=None))
    assert "fewer than 5 needles lie outside a window" in none.report()
    assert {c.name: c.evidence for c in claims(none)}["sufficient"] == "too few needles outside the window"


def test_a_model_that_reasons_shows_both_curves(full):
    scan, _ = full
    points = (
        Harm(1, 0.8, 0.5, 0.1, -0.1, 0.3, (0.0, 0.1), 0.4, 0.4),
        Harm(3, 0.1, 0.5, 0.89, 0.7, 1.0, (0.0,) * 20, 0.048, 0.06),
    )
    able = replace(scan, proved=replace(scan.proved, reasoning=Reasoning(24, 0.9, 0.5, points)))
    claim = {c.name: c for c in claims(able)}["reasoning"]
    assert claim.answer == "yes" and "+0.89 more lost (+0.70 to +1.00), n = 24, 20 draws, p = 0.048" in claim.evidence
    page, text = able.report(), shown(able)
    assert "answered at once" in page and "n = 24 word problems" in page and "direct answers: not scored" not in page
    assert "+0.89 (+0.70 to +1.00)" in text and "unmasked 0.90 reasoned, 0.50 at once" in text
