"""The slider: what it holds and refuses; in a browser, its files are those of `workbench export`, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser_pages import OVERFLOW, browser, show  # noqa: F401

from workbench.cli import main
from workbench.errors import BadInput
from workbench.exporters.cutting import Cutting
from workbench.exporters.duo_attention import config_text
from workbench.exporters.split import split
from workbench.heads import HeadScores
from workbench.scores_io import score_files
from workbench.views import Page, Section
from workbench.views.cut_slider import FILES, CutSlider, Stop

HOSTILE = "</script><img src=x onerror=alert(1)>"
CURVE = [(0, 0.1, 0.0, 0.2), (2, 0.5, 0.4, 0.6), (6, 1.0, 0.9, 1.0)]


def kv_scores() -> HeadScores:
    """Ties, a negative score, and a score whose shortest spelling is long; 2 layers × 3 key-value heads."""
    return HeadScores(np.array([[0.1 + 0.2, 0.5, 0.5], [-0.25, 1e-7, 0.0]]), "test", kv_heads=3)


def slider(scores: HeadScores, **fields) -> CutSlider:
    lines = sorted({float(scores.ranking[h]) for h in scores.rank()}, reverse=True)
    fulls = [(0, "sparsity=1.0")] + [(len(scores.at_least(x)), f"threshold={x!r}") for x in lines]
    size = scores.values.size
    stops = [Stop(k, option, repr(1 - k / size)) for k, option in fulls]
    config = config_text(4, 16, sparsity=None).replace("null", "{sparsity}")
    command = "workbench export RUN format=duo-attention {option} sink_size=4 recent_size=16"
    made = dict(
        scores=scores.ranking, ranked=scores.rank(), stops=stops, curve=CURVE, sink=4, recent=16, context=1000,
        measured="on 8 needles", command=command, config=config,
    )  # fmt: skip
    return CutSlider(**{**made, **fields})


def test_what_does_not_fit_is_refused():
    scores = kv_scores()
    for fields, said in (
        ({"ranked": scores.rank()[:-1]}, "not that of the heads"),
        ({"stops": [Stop(7, "x", "0")]}, "more heads full than there are"),
        ({"stops": []}, "more heads full"),
        ({"curve": []}, "needs a measured curve"),
        ({"start": 9}, "a start among its stops"),
    ):
        with pytest.raises(BadInput, match=said):
            slider(scores, **fields)


def test_texts_are_escaped():
    html = slider(kv_scores(), measured=HOSTILE, unit=HOSTILE, title=HOSTILE, caption=HOSTILE).html()
    assert "<img src=x" not in html and "&lt;img src=x" in html


@pytest.mark.browser
def test_files_are_those_of_the_export_command_at_every_stop(show, tmp_path):  # noqa: F811
    scores = kv_scores()
    made = slider(scores)
    page = show(Page("t", "", [Section("s", [made])]).html())
    (tmp_path / "RUN").mkdir()
    for name, text in score_files(scores).items():
        (tmp_path / "RUN" / name).write_text(text)
    for place, stop in enumerate(made.stops):
        page.evaluate(SET, [".cut", str(place)])
        words = page.inner_text(".line code").replace("RUN", str(tmp_path / "RUN")).split()[1:]
        out = tmp_path / f"out{place}"
        assert main([*words, f"out={out}"]) == 0 and stop.option in words
        assert main([w.replace("duo-attention", "golden-stick") for w in words] + [f"out={out}-list"]) == 0
        for which, name in enumerate(FILES):
            page.evaluate(SET, [".which", str(which)])
            folder = tmp_path / (f"out{place}-list" if name == "retrieval.json" else f"out{place}")
            if stop in (made.stops[0], made.stops[-1]):  # Chromium lets a page hand out ten files at once
                with page.expect_download() as download:
                    page.click(".keep")
                assert download.value.suggested_filename == name
                assert (folder / name).read_bytes() == Path(download.value.path()).read_bytes(), (stop, name)
            assert page.evaluate("document.querySelector('.file').textContent") == (folder / name).read_text()
    assert not page.faults and len(page.requests) == 1


@pytest.mark.browser
def test_cost_and_recall_follow_the_slider_and_the_tokens(show):  # noqa: F811
    page = show(Page("t", "", [Section("s", [slider(kv_scores(), start=1)])]).html(), width=390, scheme="dark")
    assert page.evaluate(OVERFLOW) == [0, []]
    share = (2 * 1000 + 4 * 20) / 6000
    assert page.inner_text(".readout") == (
        f"2 of 6 key-value heads full, {100 * share:.1f} % of the cache, expected recall 0.500 [0.400, 0.600]"
    )
    page.evaluate(SET, [".served", "10"])
    assert "100.0 % of the cache" in page.inner_text(".readout"), "the window holds it all"
    page.evaluate(SET, [".cut", "2"])
    facts = page.inner_text(".facts")
    assert "0.625 [0.525, 0.700] (between measured points)" in facts and "60 of 60" in facts
    assert not page.faults


@pytest.mark.browser
def test_heads_without_a_score_are_always_full(show):  # noqa: F811
    values = np.array([[0.5, np.nan], [0.25, 0.75]])
    scores = HeadScores(values, "test", kv_heads=2)
    page = show(Page("t", "", [Section("s", [slider(scores, curve=[(0, 0.0, 0.0, 0.1), (3, 1.0, 0.9, 1.0)])])]).html())
    for place, want in enumerate(([[0, 1], [0, 0]], [[0, 1], [0, 1]], [[1, 1], [0, 1]], [[1, 1], [1, 1]])):
        page.evaluate(SET, [".cut", str(place)])
        rows = page.evaluate("document.querySelector('.file').textContent").splitlines()
        assert [[int(float(x)) for x in row.split("\t")] for row in rows] == want
        line = {0: "threshold=9"}.get(place, page.inner_text(".line code").split()[4])
        how = Cutting(threshold=float(line.split("=")[1]), unscored="full")
        assert (split(scores, "kv", how).full == want).all()


SET = """([name, value]) => {
  const input = document.querySelector(name);
  input.value = value;
  input.dispatchEvent(new Event("input"));
}"""
