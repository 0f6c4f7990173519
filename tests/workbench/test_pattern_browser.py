"""The pattern view in a real browser: exact colours, words under the pointer, keys, zoom, files, budget."""

from __future__ import annotations

import base64
import csv
import io

import numpy as np
import pytest
from browser_pages import OVERFLOW
from PIL import Image
from sample_pages import HOSTILE
from sample_patterns import long_view, pooled

from workbench.views import ExactRows, Page, PatternView, Section, Tile
from workbench.views.colours import cividis
from workbench.views.pattern_tiles import levels, weights_of

pytestmark = pytest.mark.browser
EDGE, SIZE = 48, 1024


def small(rng):
    """2 × 3 heads over 64 tokens in 8 × 8 blocks; head 0.1 also in 32 × 32."""
    overview = pooled(rng, 6, 8)[:, 0].reshape(2, 3, 8, 8)
    overview[1, 2] = np.nan
    tile = Tile((0, 1), pooled(rng, 1, 32, 2)[0], 2, 2)
    received = np.tile(np.array([0.5, 0.25]), (2, 3, 1))
    keys = np.tile(np.array([3, 40]), (2, 3, 1))
    rows = ExactRows([63], [(0, 1)], np.array([[[3, 40, 7]]]), np.array([[[0.5, 0.25, 0.125]]]))
    texts = [*HOSTILE, *(f"t{i}" for i in range(len(HOSTILE), 64))]
    return (
        PatternView(texts, overview, keys, received, [tile], rows, {"needle": (40, 44)}, "Patterns", "n = 1"),
        overview,
        tile,
    )


@pytest.fixture
def opened(show):
    view, overview, tile = small(np.random.default_rng(0))
    page = show(Page("t", "s", [Section("P", [view])]).html())
    page.wait_for_selector("[data-texts]")
    return page, view, overview, tile


def pixels(page, where):
    """Red, green, blue, opacity of a canvas."""
    address = page.evaluate("(where) => document.querySelector(where + ' canvas').toDataURL()", where)
    return np.array(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA"))


def colours(view, weights):
    """What each weight is painted in."""
    level, low = levels(weights).astype(float), view.low()
    place = np.where(level == 255, np.nan, np.maximum(level - low, 0) / (63 - low))
    return np.array([[cividis(float(v)) for v in row] for row in place])


def at(page, query, key, span=64):
    """Moves the pointer over a cell of the map that is shown whole."""
    box = page.locator(".field canvas").bounding_box()
    scale = box["width"] / (EDGE + SIZE)
    x, y = (EDGE + SIZE * (p + 0.5) / span for p in (key, query))
    return box["x"] + scale * x, box["y"] + scale * y


def test_the_thumbnails_show_exactly_the_levels_given(opened):
    page, view, overview, _ = opened
    got = pixels(page, ".overview")
    assert got.shape == (20, 30, 4)
    seen = np.tril(np.ones((8, 8), bool))
    for layer in range(2):
        for head in range(3):
            part = got[layer * 10 :, head * 10 :][:8, :8]
            want = colours(view, overview[layer, head])
            unknown = np.isnan(overview[layer, head])
            np.testing.assert_array_equal(part[unknown][:, :3], 185)
            np.testing.assert_allclose(part[seen & ~unknown][:, :3], want[seen & ~unknown], atol=1)
            assert (part[~seen & ~unknown][:, 3] == 0).all()


def test_the_map_shows_the_finest_blocks_and_the_pointer_reads_them(opened):
    page, view, _, tile = opened
    assert page.inner_text(".where").startswith("L0H1, mass: queries 0–63 × keys 0–63; finest blocks 2 × 2 tokens")
    got = pixels(page, ".field")
    centre = lambda i: EDGE + 32 * i + 16  # noqa: E731
    for channel in (0, 1):
        page.select_option("select.channel", str(channel))
        got, want = pixels(page, ".field"), colours(view, tile.cells[channel])
        for q, k in ((31, 0), (20, 7), (9, 9)):
            np.testing.assert_allclose(got[centre(q), centre(k), :3], want[q, k], atol=1)
    page.select_option("select.channel", "0")
    page.mouse.move(*at(page, 40, 2))
    value = float(weights_of(levels(tile.cells[0, 20, 1])))
    shown = f"about {value:.3f}" if value >= 0.01 else f"about {value:.6f}"
    assert page.inner_text(".readout") == f"L0H1: queries 40–41 “t40” (needle) × keys 2–3 “{HOSTILE[2]}”: mass {shown}"
    x, _ = at(page, 0, 40)
    page.mouse.move(x, page.locator(".field canvas").bounding_box()["y"] + 4)
    assert "key 40 “t40” receives 0.250" in page.inner_text(".readout")
    assert page.faults == [] and len(page.requests) == 1


def test_marks_stand_at_exact_positions(opened):
    page, _, _, _ = opened
    got = pixels(page, ".field")
    band = np.flatnonzero(got[3, :, 3])
    assert band.min() == EDGE + 40 * 16 and band.max() == EDGE + 44 * 16 - 1
    ticks = np.flatnonzero(got[EDGE - 4, EDGE:, 3] > 128)
    assert set((ticks / 16).astype(int)) == {3, 40} and len(ticks) <= 8
    page.select_option("select.row", "0")
    listed = page.evaluate(
        "[...document.querySelectorAll('.keys tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    assert listed == [["3", HOSTILE[3], "0.500", ""], ["40", "t40", "0.250", "needle"], ["7", "t7", "0.125", ""]]


def test_keys_and_zoom(opened):
    page, *_ = opened
    page.focus(".overview")
    for key, head in (("ArrowRight", "L0H2"), ("ArrowRight", "L0H2"), ("ArrowDown", "L1H2"), ("ArrowLeft", "L1H1")):
        page.keyboard.press(key)
        assert page.inner_text(".where").startswith(head)
    assert page.evaluate("location.hash") == "#L1H1" and "blocks 8 × 8" in page.inner_text(".where")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "field"
    page.keyboard.press("+")
    assert "queries 16–47 × keys 16–47" in page.inner_text(".where")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert "queries 24–55 × keys 8–39" in page.inner_text(".where")
    page.keyboard.press("Escape")
    assert "queries 0–63 × keys 0–63" in page.inner_text(".where")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "overview"
    page.mouse.move(*at(page, 31.5, 7.5))
    page.mouse.down()
    page.mouse.move(*at(page, 47.5, 23.5), steps=3)
    page.mouse.up()
    assert "queries 32–47 × keys 8–23" in page.inner_text(".where")
    page.click("[data-zoom='0']")
    assert "queries 0–63" in page.inner_text(".where")


def test_a_click_a_link_and_the_address_choose_a_head(show):
    view, _, _ = small(np.random.default_rng(1))
    html = Page("t", "s", [Section("P", [view])]).html()
    page = show(html, hash="#L1H0")
    assert page.inner_text(".where").startswith("L1H0")
    box = page.locator(".overview canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.2)
    assert page.inner_text(".where").startswith("L0H2") and page.evaluate("location.hash") == "#L0H2"
    page.evaluate("location.hash = '#L0H1'")
    page.wait_for_function("document.querySelector('.where').textContent.startsWith('L0H1')")


def saved(page, kind):
    with page.expect_download() as got:
        page.click(f"button[aria-label='Save as {kind}']")
    with open(got.value.path(), "rb") as file:
        return got.value.suggested_filename, file.read()


def test_files_of_the_view(opened):
    page, *_ = opened
    page.select_option("select.row", "0")
    (name, text), hostile = saved(page, "CSV"), HOSTILE[3]
    rows = list(csv.reader(io.StringIO(text.decode())))
    assert name == "figure-1.csv" and rows[0] == ["what", "query", "key", "token", "weight of L0H1"]
    assert rows[1:3] == [["received", "", "3", hostile, "0.5"], ["received", "", "40", "t40", "0.25"]]
    assert [row[1:] for row in rows[3:]] == [
        ["63", "3", hostile, "0.5"],
        ["63", "40", "t40", "0.25"],
        ["63", "7", "t7", "0.125"],
    ]
    assert b"L0H1, mass: queries 0" in saved(page, "SVG")[1]
    assert saved(page, "PNG")[1].startswith(b"\x89PNG")
    assert page.faults == [] and len(page.requests) == 1


def test_a_page_of_128k_tokens_and_1024_heads_opens_at_once(show, record_property):
    html = Page("t", "s", [Section("P", [long_view(seed=3)])]).html()
    page = show(html)
    ready, paint = page.evaluate(
        "[performance.now(), performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null]"
    )
    page.wait_for_selector("[data-texts]")
    times = page.evaluate("""() => Array.from({ length: 64 }, (_, i) => {
      const start = performance.now();
      document.dispatchEvent(new CustomEvent("workbench-head", { detail: { layer: i % 32, head: (i * 7) % 32 } }));
      return performance.now() - start;
    })""")
    heap = page.evaluate("performance.memory.usedJSHeapSize")
    nodes = page.evaluate("document.querySelectorAll('*').length")
    said = {"MB": len(html) / 1e6, "ready_ms": ready, "paint_ms": paint, "choice_ms": max(times), "heap_MB": heap / 1e6}
    print(said)
    assert len(html) <= 2_000_000 and nodes < 3000 and heap < 200e6 and page.faults == []
    assert page.evaluate(OVERFLOW) == [0, []]
