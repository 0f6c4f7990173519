"""The image overlay in a real browser: exact colours, words, heads and keys; and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from browser_pages import OVERFLOW
from sample_looks import SCRIPT, looks

from workbench.errors import BadInput, TooLarge
from workbench.views import HeadMap, ImageOverlay, Page, Section
from workbench.views.colours import cividis
from workbench.views.image_strip import image_strip, laid_over
from workbench.views.picture import picture_uri
from workbench.visual.looks import Looks, Said

CHOOSE = """([layer, head]) => document.dispatchEvent(new CustomEvent("workbench-head", { detail: { layer, head } }))"""
CANVAS = """(canvas) => [canvas.width, canvas.height,
  ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""


def page(*blocks) -> str:
    return Page("t", "s", [Section("Pictures", blocks)], max_bytes=4_000_000).html()


def colours(shown, selector="canvas") -> np.ndarray:
    columns, rows, *data = shown.eval_on_selector(f".fig-overlay .frame {selector}", CANVAS)
    return np.array(data, dtype=int).reshape(rows, columns, 4)


def expected(levels: np.ndarray) -> np.ndarray:
    return np.array([[[*cividis(v / 255), 255] for v in row] for row in levels])


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (900, "dark"), (390, "light"), (390, "dark")])
def test_it_opens_alone_and_fits(show, width, scheme):
    both = ImageOverlay([looks(), looks("second", (300, 400), seed=1)], title="Seen", caption="n = 2")
    shown = show(page(both, ImageOverlay([looks(layers=32, heads=32, views=((2, 2),))])), width, scheme)
    assert shown.faults == [] and len(shown.requests) == 1
    assert shown.evaluate(OVERFLOW) == [0, []]
    boxes = shown.evaluate(
        "[...document.querySelectorAll('.fig-overlay .frame')].map((f) => f.getBoundingClientRect().width)"
    )
    assert all(120 <= w <= 360 for w in boxes)
    unnamed = shown.evaluate("""[...document.querySelectorAll('[role]')].filter((e) => !e.ariaLabel).length""")
    assert unnamed == 0 and shown.evaluate(
        "[...document.querySelectorAll('select, input')].every((s) => s.labels.length)"
    )


@pytest.mark.browser
def test_colours_are_those_of_the_map_that_is_named(show):
    one, two = looks(), looks("second", seed=1, views=((4, 3),))
    shown = show(page(ImageOverlay([one, two])))
    layer, head = divmod(int(one.mass[4].argmax()), 5)
    said = shown.inner_text(".fig-overlay .readout")
    assert said.startswith(f"L{layer}H{head} at “trucks”: {one.mass[4, layer, head]:.3f}"), (
        "an invented word comes first"
    )
    np.testing.assert_array_equal(colours(shown), expected(one.levels[0][4, layer, head]))
    shown.select_option("select.view", "1")
    np.testing.assert_array_equal(colours(shown), expected(one.levels[1][4, layer, head]))
    shown.click(".fig-overlay .said button:has-text('dog')")
    np.testing.assert_array_equal(colours(shown), expected(one.levels[1][1, layer, head]))
    assert shown.inner_text(".fig-overlay .top") == f"{one.tops[1, layer, head]:.3f}"
    shown.select_option("select.picture", "1")
    np.testing.assert_array_equal(colours(shown), expected(two.levels[0][4, layer, head]))
    visible = "[...document.querySelectorAll('.fig-overlay img')].map((i) => i.checkVisibility())"
    assert shown.evaluate(visible) == [False, True] and shown.faults == []


@pytest.mark.browser
def test_a_part_is_read_and_shades_the_words(show):
    one = looks(views=((3, 4),))
    shown = show(page(ImageOverlay([one])))
    layer, head = divmod(int(one.mass[4].argmax()), 5)
    box = shown.locator(".fig-overlay .frame canvas").bounding_box()
    frame = shown.locator(".fig-overlay .frame img").bounding_box()
    assert box["x"] - frame["x"] == pytest.approx(0.1 * frame["width"], abs=1)
    shown.mouse.move(box["x"] + box["width"] * 2.5 / 4, box["y"] + box["height"] * 1.5 / 3)
    weight = one.weights()[4, layer, head, 1, 2]
    assert f"row 2, column 3: weight {weight:.4f}" in shown.inner_text(".fig-overlay .readout")
    shown.mouse.click(box["x"] + box["width"] * 2.5 / 4, box["y"] + box["height"] * 1.5 / 3)
    paid = one.weights()[:, layer, head, 1, 2]
    found = shown.evaluate("""[...document.querySelectorAll('.fig-overlay .said button')].map((b) => {
      const parts = getComputedStyle(b).backgroundColor.match(/[\\d.]+/g).map(Number);
      return parts.length > 3 ? parts[3] : 1;
    })""")
    np.testing.assert_allclose(found, paid / paid.max(), atol=0.003)
    shown.focus(".fig-overlay .frame")
    shown.keyboard.press("Escape")
    assert "most on" in shown.inner_text(".fig-overlay .readout")


@pytest.mark.browser
def test_heads_and_words_are_walked_by_keys_and_other_figures_follow(show):
    one = looks(views=((3, 4),))
    shown = show(page(HeadMap(one.mass[4]), ImageOverlay([one])))
    shown.evaluate(CHOOSE, [1, 2])
    shown.focus(".fig-overlay .frame")
    for key, (layer, head) in (
        ("ArrowRight", (1, 3)), ("ArrowDown", (2, 3)), ("ArrowDown", (2, 3)), ("ArrowLeft", (2, 2)), ("ArrowUp", (1, 2)),
    ):  # fmt: skip
        shown.keyboard.press(key)
        assert shown.inner_text(".fig-overlay .readout").startswith(f"L{layer}H{head} at")
        assert shown.inner_text(".fig-headmap .readout").startswith(f"L{layer}H{head}:")
        np.testing.assert_array_equal(colours(shown), expected(one.levels[0][4, layer, head]))
    shown.focus(".fig-overlay .said button[aria-pressed=true]")
    shown.keyboard.press("ArrowLeft")
    assert f"at “{SCRIPT}”" in shown.inner_text(".fig-overlay .readout")
    assert shown.evaluate("document.activeElement.textContent") == SCRIPT
    cells = shown.locator(".fig-overlay canvas.heads").bounding_box()
    shown.mouse.click(cells["x"] + cells["width"] * 4.5 / 5, cells["y"] + cells["height"] * 2.5 / 3)
    assert shown.inner_text(".fig-overlay .readout").startswith("L2H4 at") and shown.faults == []


@pytest.mark.browser
def test_a_page_may_hold_some_heads_alone(show):
    one = looks(views=((3, 4),))
    kept = [(2, 0), (0, 3)]
    shown = show(page(ImageOverlay([one], heads=kept)))
    for (layer, head), word in itertools.product(kept, (0, 4)):
        shown.evaluate(
            f"document.dispatchEvent(new CustomEvent('workbench-head', {{ detail: {{ layer: {layer}, head: {head} }} }}))"
        )
        shown.locator(".fig-overlay .said button").nth(word).click()
        np.testing.assert_array_equal(colours(shown), expected(one.levels[0][word, layer, head]))
    shown.evaluate(CHOOSE, [1, 1])
    assert "does not hold its map" in shown.inner_text(".fig-overlay .readout")
    assert not colours(shown).any() and shown.faults == []


@pytest.mark.browser
def test_opacity_and_smoothing(show):
    shown = show(page(ImageOverlay([looks()])))
    set_to = """(input) => { input.value = .25; input.dispatchEvent(new Event("input")); }"""
    shown.eval_on_selector(".fig-overlay input[type=range]", set_to)
    style = "(c) => [getComputedStyle(c).opacity, getComputedStyle(c).imageRendering]"
    assert shown.eval_on_selector(".fig-overlay .frame canvas", style) == ["0.25", "pixelated"]
    shown.check(".fig-overlay input[type=checkbox]")
    assert shown.eval_on_selector(".fig-overlay .frame canvas", style) == ["0.25", "auto"]


@pytest.mark.browser
def test_the_picture_with_its_map_is_saved(show):
    from PIL import Image

    one = looks(views=((3, 4),))
    shown = show(page(ImageOverlay([one])))
    shown.eval_on_selector(
        ".fig-overlay input[type=range]", "(i) => { i.value = 1; i.dispatchEvent(new Event('input')); }"
    )
    with shown.expect_download() as got:
        shown.click(".fig-overlay button:has-text('PNG')")
    pixels = np.asarray(Image.open(got.value.path()).convert("RGB"))
    assert pixels.shape == (2 * round(512 * 40 / 60), 1024, 3)
    layer, head = divmod(int(one.mass[4].argmax()), 5)
    levels, (height, width, _) = one.levels[0][4, layer, head], pixels.shape
    for row, column in np.ndindex(3, 4):
        at = pixels[int((row + 0.5) / 3 * height), int((0.1 + 0.8 * (column + 0.5) / 4) * width)]
        np.testing.assert_allclose(at, cividis(levels[row, column] / 255), atol=2)
    assert shown.faults == []


def test_several_photographs_fit_in_a_report():
    """Five pictures of 640 × 480 with 24 × 24 parts, twenty words, sixteen heads of 256; each embedded once."""
    words = tuple(Said(f"w{i}") for i in range(20))
    y, x = np.mgrid[:480, :640]
    smooth = np.stack([128 + 100 * np.sin(x / 40 + y / 60 * k) for k in (1, 2, 3)], -1).astype(np.uint8)
    many, sharp = [], ((np.arange(256) / 255) ** 8 * 255).astype(np.uint8)
    for i in range(5):
        one = looks(f"photo {i}", (2, 2), ((24, 24),), 16, 16, i, words)
        many.append(Looks(one.name, smooth, words, one.grids, (sharp[one.levels[0]],), one.tops, one.mass))
    with pytest.raises(TooLarge, match="give heads="):
        ImageOverlay(many)
    text = page(ImageOverlay(many, heads=[(i, 15 - i) for i in range(16)]))
    assert len(text) <= 4_000_000 and text.count("data:image/jpeg") == 5


def test_markup_is_escaped_and_pictures_are_exact_or_small():
    assert SCRIPT not in page(ImageOverlay([looks(SCRIPT)], title=SCRIPT, caption=SCRIPT))
    html = ImageOverlay([looks()]).html()
    assert html.count("data:image/png") == 1 and "not in the picture" in html and "<td>no</td>" in html
    from PIL import Image

    large = np.zeros((1000, 2000, 3), dtype=np.uint8)
    import base64
    import io

    held = Image.open(io.BytesIO(base64.b64decode(picture_uri(large).split(",")[1])))
    assert held.size == (512, 256) and held.format == "JPEG"
    exact = looks().pixels
    again = Image.open(io.BytesIO(base64.b64decode(picture_uri(exact).split(",")[1])))
    np.testing.assert_array_equal(np.asarray(again), exact)


def test_what_cannot_be_shown_is_said():
    one = looks()
    for run, said in (
        (lambda: ImageOverlay([]), "give pictures"),
        (lambda: ImageOverlay([looks(words=())]), "at least a word"),
        (lambda: ImageOverlay([one, looks(layers=4)]), "other sizes"),
        (lambda: ImageOverlay([one], heads=[(3, 0)]), r"head \(3, 0\) is outside 3 x 5"),
        (lambda: ImageOverlay([one], heads=[]), "no head was chosen"),
    ):
        with pytest.raises(BadInput, match=said):
            run()


def test_small_pictures_of_a_notebook_are_blended_exactly():
    one = looks(size=(6, 8), views=((3, 4),))
    mixed = laid_over(one.pixels, one.levels[0][1, 2, 3], (0.0, 0.0, 1.0, 1.0), 0.25)
    for y, x in np.ndindex(6, 8):
        over = np.array(cividis(one.levels[0][1, 2, 3, y // 2, x // 2] / 255))
        np.testing.assert_array_equal(mixed[y, x], (0.75 * one.pixels[y, x] + 0.25 * over).round())
    half = laid_over(one.pixels, one.levels[0][1, 2, 3], (0.5, 0.0, 1.0, 1.0), 0.5)
    np.testing.assert_array_equal(half[:, :4], one.pixels[:, :4])
    assert (half[:, 4:] != one.pixels[:, 4:]).any()
    html = image_strip(one, (2, 3))
    assert html.count("<img") == 2 and "<script" not in html and "not in the picture" in html
    assert len(repr(one)) < 200 and len(repr(ImageOverlay([one]))) < 200
    assert len(ImageOverlay([one])._repr_html_()) < 60_000 and SCRIPT not in image_strip(looks(SCRIPT), (0, 0))
    with pytest.raises(BadInput, match="outside 3 x 5"):
        image_strip(one, (3, 0))
