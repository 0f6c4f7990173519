"""The atlas's view: size at 32 × 32 heads, the numbers that were given, and in a browser its switches and files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from browser_pages import OVERFLOW
from sample_pages import HOSTILE

from workbench.errors import BadInput
from workbench.exporters import export
from workbench.scores_io import read_scores
from workbench.views import Page, Section
from workbench.views.head_atlas import AtlasPicture, AtlasScore, AtlasSide, HeadAtlas, short

SCORES = [
    AtlasScore(f"s{i}", f"score {i}", "attention", f"what {i} means", 8, "raw" if i % 2 else "") for i in range(4)
]


PAINTED = """[...document.querySelectorAll('.fig-headatlas canvas')].every((c) =>
  new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size > 3)"""


def view(shape=(4, 6), scores=SCORES, pictures=3, side=12, models=1, seed=0, words=HOSTILE) -> HeadAtlas:
    """Smooth random patterns (they pack as real ones do) and scores; head (0, 1) of score 1 was never scored."""
    rng, sides = np.random.default_rng(seed), []
    for m in range(models):
        values = {}
        for s in scores:
            v = rng.random(shape) * (m + 1)
            values[s.key] = (v, v * 0.9, v * 1.1)
        values["s1"][0][0, 1] = np.nan
        drawn = []
        for i in range(pictures):
            mass = np.cumsum(rng.normal(size=(*shape, side, side)), -1) + 2 * rng.random((*shape, 1, 1))
            levels = np.clip(4 + mass, 0, 11).astype(np.uint8) * np.tri(side, dtype=np.uint8)
            drawn.append(AtlasPicture(f"prompt {i}", {"needle": (0.2, 0.4)}, levels))
        profiles = {"raw": rng.random((*shape, 10)), "without sinks": rng.random((*shape, 10))}
        reads = rng.integers(0, len(words), (*shape, 6))
        shares = np.sort(rng.random((*shape, 6)))[..., ::-1] / 6
        raised = rng.integers(0, len(words), (*shape, 3, 3))
        sides.append(
            AtlasSide(f"model {m}", max(1, shape[1] // 3), values, profiles, words, reads, shares, drawn, words, raised)
        )
    return HeadAtlas(scores, sides, "s0", "s1", 12, "A caption.", "workbench export")


def page(atlas: HeadAtlas) -> str:
    return Page("Atlas", "test", [Section("Every head", [atlas])]).html()


def test_a_model_of_1024_heads_with_ten_prompts_fits_the_budget():
    """As many scores as an atlas has, and patterns at the side that is chosen for them; more heads get smaller ones."""
    from workbench_analyses.atlas_parts.pictures import side as fitting

    side = fitting(1024, 10)
    many = [AtlasScore(f"s{i}", f"score {i}", "attention", "means something", 8) for i in range(38)]
    html = page(view((32, 32), many, 10, side, words=[f"word{i}" for i in range(400)]))
    assert side >= 16 and 800_000 < len(html.encode()) < 2_500_000, (side, len(html.encode()))
    assert fitting(5120, 10) == 8 and fitting(1024, 10, models=2) < side <= fitting(64, 5) == 32


def test_numbers_keep_four_digits_and_missing_ones_are_said():
    x = np.array([[0.123456, 1234.56], [np.nan, 0.0]])
    assert short(x)[:2] == [0.1235, 1235.0] and np.isnan(short(x)[2]) and short(x)[3] == 0
    assert short(np.full((2, 2), np.nan)) == []
    with pytest.raises(BadInput, match="no score 'zz'"):
        HeadAtlas(SCORES, view().sides, "zz", "s1", 12)
    with pytest.raises(BadInput, match="3 models"):
        HeadAtlas(SCORES, view().sides * 3, "s0", "s1", 12)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme", "models"), [(1280, "light", 1), (1280, "dark", 2), (390, "light", 2)])
def test_opens_alone_and_fits(show, width, scheme, models):
    shown = show(page(view(models=models)), width, scheme)
    assert shown.faults == [] and len(shown.requests) == 1
    assert shown.evaluate(OVERFLOW) == [0, []]
    assert shown.evaluate(PAINTED), "no canvas is blank"
    assert shown.locator(".thumbs canvas").count() == 3 * models and shown.locator(".cards h3").count() == models
    assert "<img" not in shown.inner_html(".cards") and shown.evaluate("window.hit") is None


@pytest.mark.browser
def test_scores_switch_and_heads_are_chosen(show):
    atlas = view()
    shown, values = show(page(atlas), hash="#L2H3"), atlas.sides[0].values
    assert shown.inner_text(".cards h3").startswith("L2H3")
    row = shown.locator(".cards tbody tr").nth(2).inner_text()
    side, read = atlas.sides[0], shown.locator(".cards .reads").nth(1).inner_text().strip("\n").split("\n")
    for line, place, raised in zip(read, side.reads[2, 3], side.raised[2, 3]):
        assert line.split() == " ".join([side.words[place], "→", *(side.words[i] for i in raised)]).split()
    assert len(read) == 3 and "What reading them raises" in shown.inner_text(".cards")
    value = values["s2"][0]
    assert f"{value[2, 3]:.3f}" in row and row.split("\t")[2] == str(1 + int((value > value[2, 3]).sum()))
    before = shown.get_attribute(".map image", "href")
    shown.select_option("select.x", "2")
    assert shown.get_attribute(".map image", "href") != before and "what 2 means" in shown.inner_text(".help")
    assert f"{value.max():.3f}" in shown.inner_text(".scale.legend")
    shown.focus(".map")
    shown.keyboard.press("ArrowRight")
    assert shown.inner_text(".cards h3").startswith("L2H4") and shown.evaluate("location.hash") == "#L2H4"
    dots = shown.get_attribute(".cloud .dots", "d")
    assert dots.count("M") == 23, "all heads but the one that was never scored"


@pytest.mark.browser
def test_a_selection_is_linked_and_leaves_as_files(show, tmp_path):
    atlas = view()
    shown, value = show(page(atlas)), atlas.sides[0].values["s0"][0]
    shown.fill("input.k", "3")
    shown.click("button.top")
    assert shown.inner_text("output") == "3 heads selected"
    assert shown.get_attribute(".map .some", "d").count("M") == 3
    best = {divmod(int(i), 6) for i in np.argsort(-value, axis=None)[:3]}

    def saved(kind: str) -> str:
        shown.select_option("select.file", kind)
        with shown.expect_download() as got:
            shown.click("button.hand")
        return got.value.path().read_text()

    held = json.loads(saved("json"))[0]
    assert {tuple(h) for h in held["heads"]} == best and held["model"] == "model 0" and held["score"] == "s0"
    scores = json.loads(saved("scores.json"))
    assert {tuple(map(int, k.split("-"))) for k, v in scores.items() if v == [1]} == best and len(scores) == 24
    (tmp_path / "selection-scores.json").write_text(json.dumps(scores))  # any serving format is one command away
    export(read_scores(tmp_path / "selection-scores.json", 2), "qrhead", tmp_path / "out", threshold=0.5)
    assert {tuple(h) for h in read_scores(tmp_path / "out", 2, layers=4, heads=6).at_least(0.1)} == best
    gates = np.array([[float(x) for x in line.split("\t")] for line in saved("DuoAttention").splitlines()])
    expected = np.zeros((4, 2))
    for layer, head in best:
        expected[layer, head // 3] = 1
    assert np.array_equal(gates, expected)
    assert {tuple(map(int, h.split("-"))) for h in saved("QRHead").split('"')[1].split(",")} == best
    shown.click("button.none")
    assert shown.is_disabled("button.hand")
    box = shown.locator(".cloud svg").bounding_box()
    shown.mouse.move(box["x"] + 40, box["y"] + 2)
    shown.mouse.down()
    shown.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 5, steps=3)
    shown.mouse.up()
    assert shown.inner_text("output") == "23 heads selected"
