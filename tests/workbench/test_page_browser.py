"""The page in a real browser: no request, no error, the numbers that were given, and nothing that overflows."""

from __future__ import annotations

import csv
import io
import itertools

import numpy as np
import pytest
from browser_pages import OVERFLOW
from PIL import Image
from sample_circuits import two_circuits
from sample_pages import HOSTILE, full_page, head_map

from workbench.views import CircuitGraph, Curves, Page, Section, Series, Table, TokenView
from workbench.views.colours import cividis, hexed
from workbench.views.notebook import attention_circuitsvis, mini_html
from workbench.views.text import visible

pytestmark = pytest.mark.browser


def test_blocks_stand_below_each_other_at_a_middle_width(show):
    page = show(full_page().html(), 900)
    assert page.faults == [] and len(page.requests) == 1 and page.requests[0].startswith("file:")
    assert page.evaluate(OVERFLOW) == [0, []]
    boxes = page.evaluate(
        "[...document.querySelectorAll('section > *')].map((e) => e.getBoundingClientRect()).map((b) => [b.top, b.bottom])"
    )
    assert all(above[1] <= below[0] + 1 for above, below in itertools.pairwise(boxes)), "blocks overlap"
    assert page.evaluate("document.querySelector('.plot .main-svg') !== null")


def test_the_policy_holds(show):
    page = show(full_page().html())
    blocked = page.evaluate("""async () => {
      const seen = [];
      addEventListener("securitypolicyviolation", (event) => seen.push(event.violatedDirective));
      new Image().src = "http://127.0.0.1:9/x.png";
      await fetch("http://127.0.0.1:9/").catch(() => 0);
      const script = document.createElement("script");
      script.src = "http://127.0.0.1:9/x.js";
      document.head.append(script);
      await new Promise((done) => setTimeout(done, 200));
      return seen.sort();
    }""")
    assert blocked == ["connect-src", "img-src", "script-src-elem"]


def test_every_control_and_picture_has_a_name(show):
    page = show(full_page().html())
    assert page.evaluate("document.documentElement.lang") == "en"
    unnamed = page.evaluate("""[...document.querySelectorAll('[role=img], [role=application], [role=group], [role=region]')]
      .filter((e) => !e.getAttribute('aria-label')).length""")
    assert unnamed == 0
    assert page.evaluate("[...document.querySelectorAll('select')].every((s) => s.labels.length === 1)")
    assert page.evaluate("[...document.querySelectorAll('button')].every((b) => b.textContent.trim() || b.ariaLabel)")


def test_head_map_shows_exactly_the_numbers_given(show):
    block, scores, _, _ = head_map()
    page = show(Page("t", "s", [Section("Heads", [block])]).html())
    fills = page.evaluate("[...document.querySelectorAll('.cells rect')].map((r) => r.getAttribute('fill'))")
    top = float(np.nanmax(scores))
    assert fills == [hexed(cividis(float(v) / top)) for v in scores.ravel()]
    page.focus(".map")
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowUp")
    rank = {int(i): n for n, i in enumerate(np.argsort(-scores, axis=None, kind="stable"), 1)}
    seen = []
    for _ in range(4):
        for head in range(16):
            seen.append(page.inner_text(".fig-headmap .readout"))
            page.keyboard.press("ArrowRight") if head < 15 else None
        page.keyboard.press("Home")
        page.keyboard.press("ArrowDown")
    for place, text in enumerate(seen):
        layer, head = divmod(place, 16)
        v = scores[layer, head]
        value = "n/a" if np.isnan(v) else f"{v:.3f} [{v - 0.05:.3f}, {v + 0.07:.3f}]".replace("-", "\u2212")
        where = "not scored" if np.isnan(v) else f"rank {rank[place]} of 63"
        assert text == f"L{layer}H{head}: score {value} {where}, key-value head {head // 4}"


def test_a_large_head_map_is_a_picture_of_exact_pixels(show):
    block, scores, _, _ = head_map(40, 32, 5)
    page = show(Page("t", "s", [Section("Heads", [block])]).html())
    pixels = page.evaluate("""async () => {
      const image = new Image();
      image.src = document.querySelector("image.cells").getAttribute("href");
      await image.decode();
      const canvas = document.createElement("canvas");
      canvas.width = image.width; canvas.height = image.height;
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      return [...context.getImageData(0, 0, image.width, image.height).data];
    }""")
    got = np.array(pixels).reshape(40, 32, 4)[..., :3]
    top = float(np.nanmax(scores))
    np.testing.assert_array_equal(got, [[cividis(float(v) / top) for v in row] for row in scores])


def test_a_click_on_a_head_shows_its_samples_and_hover_its_interval(show):
    block, scores, samples, labels = head_map()
    page = show(Page("t", "s", [Section("Heads", [block])]).html())
    for layer, head in ((2, 5), (1, 1), (0, 1), (1, 3)):
        cell = page.locator(".cells rect").nth(layer * 16 + head)
        cell.click(force=True)
        assert page.get_attribute(".map", "data-chosen") == f"{layer}.{head}"
        assert page.evaluate("location.hash") == f"#L{layer}H{head}"
        listed = page.evaluate(
            "[...document.querySelectorAll('table.samples tr')].map((r) => [...r.cells].map((c) => c.textContent))"
        )
        wanted = [
            [n, "n/a" if np.isnan(v) else f"{v:.4f}"] for n, v in zip(labels, samples[:, layer, head], strict=True)
        ]
        assert listed == ([] if np.isnan(scores[layer, head]) else wanted)
        assert page.locator(".behind svg rect:not(.hit)").count() == int((~np.isnan(samples[:, layer, head])).sum())
    assert "induction0.250" in page.inner_text(".behind dl").replace("\n", "")
    page.locator(".cells rect").nth(2 * 16 + 7).hover(force=True)
    assert page.inner_text(".readout").startswith(f"L2H7: score {scores[2, 7]:.3f} [")
    assert page.faults == []


def test_head_links_select_everywhere_and_the_address_remembers(show):
    html = full_page().html()
    page = show(html)
    name = page.inner_text("tbody tr:nth-child(3) .headlink")
    page.click("tbody tr:nth-child(3) .headlink")
    assert page.inner_text(".fig-headmap .readout").startswith(f"{name}:")
    assert page.evaluate("document.querySelector('select.head').selectedOptions[0].text") == name
    layer, head = name[1:].split("H")
    assert page.evaluate("location.hash") == f"#L{layer}H{head}"
    assert show(html, hash="#L2H5").inner_text(".fig-headmap .readout").startswith("L2H5:")
    assert show(html, hash="#L99H5").get_attribute(".map", "data-chosen") != "99.5"


def test_tables_sort_and_unfold(show):
    rows = [(i, float(np.sin(i)) if i % 7 else float("nan")) for i in range(30)]
    page = show(Page("t", "s", [Section("T", [Table(("n", "v"), rows, limit=10)])]).html())
    read = "[...document.querySelectorAll('tbody tr:not([hidden])')].map((r) => r.cells[0].textContent)"
    assert page.evaluate(read) == [str(i) for i in range(10)]
    known = sorted((i for i in range(30) if i % 7), key=np.sin)
    page.click("th:nth-child(2) button")
    assert page.evaluate(read) == [str(i) for i in known[::-1][:10]]
    page.click("th:nth-child(2) button")
    assert page.evaluate(read) == [str(i) for i in known[:10]]
    page.click("button.more")
    assert page.evaluate(read)[-5:] == ["0", "7", "14", "21", "28"]
    assert page.get_attribute("th:nth-child(2)", "aria-sort") == "ascending"


def test_hostile_tokens_stay_inert_and_legible(show):
    page = show(full_page().html())
    shown = page.evaluate("[...document.querySelectorAll('.tokens [data-p]')].slice(0, 6).map((s) => s.textContent)")
    assert shown == [visible(token) for token in HOSTILE]
    page.click("summary:has-text('CircuitsVis')")
    page.wait_for_selector(".circuitsvis button")
    drawn = page.evaluate("[...document.querySelectorAll('.circuitsvis button')].map((b) => b.textContent)")
    assert [text.replace("\xa0", " ") for text in drawn] == [visible(token) for token in HOSTILE]
    page.wait_for_timeout(200)
    assert page.faults == [] and len(page.requests) == 1


def test_token_view_reads_back_the_weights(show):
    weights = np.zeros((2, 2, 9))
    weights[0, 1, :3] = 0.1, 0.75, 0.15
    weights[1, 0, 4] = 1.0
    tokens = [f"t{i}" for i in range(9)]
    view = TokenView.from_dense(
        tokens, ["L0H0", "L1H1"], ["a", "b"], weights, spans={"needle": (1, 3)}, positions=[7, 8]
    )
    page = show(Page("t", "s", [Section("T", [view])]).html())
    page.select_option("select.row", "1")
    assert page.inner_text("p.readout") == "L0H0: 0.900 of its attention is on the marked parts."
    keys = page.evaluate(
        "[...document.querySelectorAll('.keys tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    assert keys == [["1", "t1", "0.750", "needle"], ["2", "t2", "0.150", "needle"], ["0", "t0", "0.100", ""]]
    page.hover(".tokens [data-p='2']")
    assert page.inner_text("p.readout") == "“t2” at position 2: weight 0.1500, needle"
    alpha = page.evaluate(
        "[...document.querySelectorAll('.tokens [data-p]')].map((s) => getComputedStyle(s).backgroundColor)"
    )
    assert alpha[1] == "rgb(0, 114, 178)" and alpha[2] == "rgba(0, 114, 178, 0.2)" and alpha[5] == "rgba(0, 0, 0, 0)"
    assert page.evaluate("document.querySelector('.reader[data-p]').dataset.p") == "8"


def test_curves_read_back(show):
    y, low, high = [0.9, 0.5, 0.1], [0.8, 0.4, 0.0], [1.0, 0.6, 0.2]
    page = show(Page("t", "s", [Section("C", [Curves([Series("a", [1, 2, 4], y, low, high)], "K", "r", "f")])]).html())
    drawn = page.evaluate("document.querySelector('.plot').data.map((t) => t.y)")
    assert drawn == [low, high, y]


CLASSES = """(kind) => [...document.querySelectorAll(".graph " + kind)].map((e) => [
  e.dataset.head ?? e.dataset.n ?? e.dataset.s + ">" + e.dataset.r,
  e.classList.contains("dim"), e.classList.contains("below")])"""


def paths_through(circuit, head):
    """Heads and edges that lie on a path through a head, by plain search."""
    edges = {(e.edge.sender, e.edge.receiver) for e in circuit.edges}
    heads, lit = {head}, set()
    for one, other in ((0, 1), (1, 0)):
        reached = {head}
        for _ in range(circuit.n_layers + 1):
            found = {e for e in edges if e[one] in reached}
            lit |= found
            reached |= {e[other] for e in found}
        heads |= reached
    return heads, lit


def test_a_click_on_a_head_of_a_circuit_lights_the_paths_through_it(show):
    one = two_circuits()[0]
    page = show(Page("t", "s", [Section("C", [CircuitGraph([one])])]).html())
    name = {f"{h[0]}.{h[1]}": h for h in one.nodes} | {"logits": None}
    ends = [name.get(x[0]) for x in page.evaluate(CLASSES, ".node")]
    for head in ((8, 6), (5, 5), (10, 7)):
        page.locator(f".node[data-head='{head[0]}.{head[1]}']").click()
        heads, edges = paths_through(one, head)
        assert {name[n] for n, dim, _ in page.evaluate(CLASSES, ".node") if not dim} == heads
        lit = [e for e, dim, _ in page.evaluate(CLASSES, ".edge") if not dim]
        as_heads = {tuple(None if x == "logits" else ends[int(x)] for x in e.split(">")) for e in lit}
        assert as_heads == edges and len(lit) < len(one.edges)
        assert page.inner_text(".readout").startswith(f"L{head[0]}H{head[1]} at ")
    assert page.evaluate("location.hash") == "#L10H7"
    page.locator(".node[data-head='10.7']").click()
    assert not any(dim for _, dim, _ in page.evaluate(CLASSES, ".node"))
    page.locator(".node[data-head='7.3']").hover()
    assert "inhibition (attends END 0.80)" in page.inner_text(".readout")
    page.locator(".edge .hit").first.hover(force=True)
    assert " of the gap" in page.inner_text(".readout") and " to " in page.inner_text(".readout")
    assert page.faults == []


def test_a_circuit_is_thinned_and_walked_by_keys(show):
    one = two_circuits()[0]
    page = show(Page("t", "s", [Section("C", [CircuitGraph([one])])]).html())
    page.evaluate(
        """() => { const s = document.querySelector("input"); s.value = .3; s.dispatchEvent(new Event("input")); }"""
    )
    assert page.inner_text("output") == "0.300"
    gone = {n for n, _, below in page.evaluate(CLASSES, ".node") if below}
    largest = {h: max((abs(x.share) for x in one.heads if x.head == h), default=0) for h in one.nodes}
    assert gone == {f"{h[0]}.{h[1]}" for h, share in largest.items() if share < 0.3}
    assert sum(below for _, _, below in page.evaluate(CLASSES, ".edge")) == sum(abs(e.share) < 0.3 for e in one.edges)
    page.evaluate(
        """() => { const s = document.querySelector("input"); s.value = 0; s.dispatchEvent(new Event("input")); }"""
    )
    page.focus(".graph")
    seen = []
    for key in ("ArrowUp", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
        seen.append(page.inner_text(".readout").split()[0].rstrip(":"))
    layers = [int(name[1:].split("H")[0]) for name in seen[1:4]]
    assert seen[0] == "logits" and layers == sorted(layers, reverse=True) and len(set(seen)) >= 5, seen
    page.keyboard.press("Escape")
    assert not any(dim for _, dim, _ in page.evaluate(CLASSES, ".node"))


def test_a_circuit_scrolls_in_its_own_box_and_follows_the_page(show):
    page = show(full_page().html(), 390)
    box = page.evaluate(
        "(() => { const b = document.querySelector('.graph'); return [b.scrollWidth > b.clientWidth, b.scrollLeft > 0]; })()"
    )
    assert box == [True, True], "the logits, on the right, are in view"
    page.evaluate("document.dispatchEvent(new CustomEvent('workbench-head', { detail: { layer: 9, head: 9 } }))")
    assert page.locator(".graph .picked").count() == 2


def saved(page, block, kind):
    with page.expect_download() as got:
        page.locator(f".fig-{block}, .{block}").first.locator(f"button[aria-label='Save as {kind}']").click()
    with open(got.value.path(), "rb") as file:
        return file.read()


def test_every_figure_hands_out_its_numbers_and_its_picture(show):
    _, scores, _, _ = head_map()
    page = show(full_page().html())
    rows = list(csv.reader(io.StringIO(saved(page, "headmap", "CSV").decode())))
    assert rows[0] == ["layer", "head", "score", "low", "high"] and len(rows) == 65
    got = np.array([[float(v or "nan") for v in row] for row in rows[1:]])
    np.testing.assert_array_equal(got[:, 2].reshape(4, 16), scores)
    top = float(np.nanmax(scores))
    svg = saved(page, "headmap", "SVG").decode()
    assert all(hexed(cividis(float(v) / top)) in svg for v in scores.ravel()) and "var(" not in svg
    listed = list(csv.reader(io.StringIO(saved(page, "tableblock", "CSV").decode())))
    assert listed[0] == ["rank", "head", "score", "n"] and len(listed) == 31
    for kind in ("plotly", "heatmap", "tokens", "circuit"):
        assert saved(page, kind, "CSV").count(b"\r\n") > 3
        text = saved(page, kind, "SVG").decode()
        assert text.startswith("<svg") and "<script" not in text and "onerror=alert(1)>" not in text
        png = np.array(Image.open(io.BytesIO(saved(page, kind, "PNG"))).convert("RGB"))
        assert len(np.unique(png.reshape(-1, 3), axis=0)) > 5, f"the picture of {kind} is blank"
    assert saved(page, "attention", "CSV").startswith(b"head,query,key,weight")
    assert page.faults == [] and [a for a in page.requests[1:] if not a.startswith(("data:", "blob:"))] == []


def test_cells_of_spreadsheets_are_no_formulas(show):
    rows = [("=cmd|' /C calc'!A0", -0.5), ("-1+2", 0.25), ('a "quoted", word', float("nan")), ("-3", 1.0)]
    page = show(Page("t", "s", [Section("T", [Table(("word", "v"), rows)])]).html())
    got = list(csv.reader(io.StringIO(saved(page, "tableblock", "CSV").decode())))
    assert got == [
        ["word", "v"],
        ["'=cmd|' /C calc'!A0", "-0.5"],
        ["'-1+2", "0.25"],
        ['a "quoted", word', ""],
        ["-3", "1.0"],
    ]


def test_downloads_hand_out_the_text(show):
    page = show(full_page().html())
    with page.expect_download() as got:
        page.click("button.file")
    assert got.value.suggested_filename == "scores.json"
    with open(got.value.path(), encoding="utf-8") as file:
        assert file.read() == '{"a": "é"}'
    assert page.faults == []


def test_a_large_page_stays_small_and_quick(show):
    html = full_page(32, 32, 40, 4000).html()
    assert len(html.encode()) <= 2_500_000
    page = show(html)
    ready = page.evaluate("performance.now()")
    worst = page.evaluate("""() => {
      const times = [];
      for (let i = 0; i < 64; i++) {
        const start = performance.now();
        document.dispatchEvent(new CustomEvent("workbench-head", { detail: { layer: i % 32, head: (i * 7) % 32 } }));
        times.push(performance.now() - start);
      }
      return Math.max(...times);
    }""")
    print(f"page {len(html) / 1e6:.2f} MB, ready within {ready:.0f} ms, slowest choice of a head {worst:.1f} ms")
    assert page.faults == [] and worst < 250


def test_notebook_outputs_draw_without_a_network(show):
    scores = np.random.default_rng(8).random((4, 8))
    few = np.tril(np.ones((2, len(HOSTILE), len(HOSTILE))))
    maps = "".join(attention_circuitsvis(HOSTILE, few / few.sum(-1, keepdims=True)) for _ in range(2))
    page = show(f"<body>{mini_html(scores, 'mini', kv_heads=2)}{maps}<p id='after'>after</p></body>", wait=False)
    page.wait_for_selector("div[id^=workbench]:nth-of-type(3) button")
    drawn = page.evaluate("[...document.images].map((i) => [i.alt.slice(0, 4), i.complete && i.naturalWidth > 100])")
    assert ["mini", True] in drawn
    drawn = page.evaluate("[...document.querySelectorAll('div[id^=workbench] button')].map((b) => b.textContent)")
    assert [text.replace("\xa0", " ") for text in drawn] == [visible(token) for token in HOSTILE] * 2
    assert page.evaluate("document.querySelector('#after').parentElement.tagName") == "BODY"
    page.wait_for_timeout(200)
    assert page.faults == [] and len(page.requests) == 1
