"""The blocks as text: escaped, offline, with exactly the numbers that were given."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sample_circuits import circuit_of
from sample_pages import full_page

from workbench.errors import BadInput, TooLarge
from workbench.views import (
    CircuitGraph,
    Command,
    Curves,
    Download,
    Downloads,
    HeadMap,
    Heatmap,
    Page,
    Prose,
    Section,
    Series,
    Table,
    TokenView,
)
from workbench.views.attention_patterns import AttentionPatterns, props
from workbench.views.colours import CIVIDIS, cividis, hexed
from workbench.views.libraries import PLOTLY_SHA256, PLOTLY_VERSION, plotly_bytes
from workbench.views.notebook import mini_html
from workbench.views.page import POLICY
from workbench.views.scatter import Points, Scatter
from workbench.views.viewer_source import MAX_BYTES, viewer_js

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"' onmouseover=alert(1) x='",
    "a & b &amp; <b>",
    "\u2028\u2029",
    "\u202egnissim",
    "\ud800",
    "\0",
    "]]>--><!--",
    "`<i>`",
)


class Tags(HTMLParser):
    """Collects tags, attributes and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def data_of(html: str):
    found = re.search(r'class="data">([^<]*)<', html)
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def every_block(word: str):
    """One of each block with `word` in every text."""
    scores = np.array([[0.5, np.nan], [0.25, 1.0]])
    token = TokenView([word, "b"], [word], [word], np.array([[[0, 1]]]), np.array([[[0.5, 0.5]]]), {word: (0, 1)})
    return [
        Prose((word,), {word: word}, word),
        Table((word, "n"), ((word, 1),), word, word),
        HeadMap(
            scores,
            word,
            word,
            word,
            word,
            samples=np.ones((1, 2, 2)),
            sample_labels=[word],
            details={(0, 0): {word: word}},
        ),
        Curves([Series(word, [1], [1])], word, word, word, word, word, marks=[(1, word)]),
        Heatmap(scores, [word, "b"], [word, "d"], word, word, word, word, word),
        token,
        AttentionPatterns([word], np.ones((1, 1, 1)), [word], word, word),
        Command(word, word),
        Downloads((Download("a.json", word),), word),
        CircuitGraph(
            [circuit_of({(1, "resid", word): {word: [(1, 0)]}}, word, (2, 1), [(0, 0)])], [word], word, word, word
        ),
    ]


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_adds_no_tag_and_no_attribute(word):
    for hostile, tame in zip(every_block(word), every_block("tame"), strict=True):
        a, b = Tags(hostile.html()), Tags(tame.html())
        extra = [tag for tag in a.tags if tag != "code"]
        assert extra == [tag for tag in b.tags if tag != "code"], type(hostile)
        assert {name for name, _ in a.attributes} == {name for name, _ in b.attributes}, type(hostile)
    page = Page(word, word, [Section(word, every_block(word), word)], word).html()
    page.encode("utf-8")
    assert "<script>alert" not in page and "<img" not in page


def test_a_page_names_no_address_and_embeds_each_library_once():
    curves = Curves([Series("a", [1], [1])], "x", "y", "finding")
    page = Page("t", "s", [Section("one", [curves, curves]), Section("one", [curves])]).html()
    assert page.count('data-library="plotly"') == 1 and 'data-library="circuitsvis"' not in page
    attributes = Tags(page).attributes
    links = [v for name, v in attributes if name in ("src", "href", "action", "srcset", "data")]
    assert links and all(v.startswith("#") or v.startswith("data:image/png") for v in links)
    assert (
        "import(" not in page
        and "@import" not in page
        and "fetch(" not in page
        and "http:" not in page.replace("http://www.w3.org/2000/svg", "")
    )
    assert [v for name, v in attributes if name == "id"] == ["one", "one-2"]
    assert f'content="{POLICY}"' in page and "eval" not in POLICY
    assert "data-library" not in Page("t", "s", [Section("one", [Prose(("a",))])]).html().replace(viewer_js(()), "")


def test_the_page_refuses_to_be_too_large_and_names_the_block():
    noise = np.random.default_rng(0).random((400, 32, 32))
    page = Page("t", "s", [Section("Heads", [Prose(("a",)), HeadMap(noise.mean(0), samples=noise)])], max_bytes=500_000)
    with pytest.raises(TooLarge, match="HeadMap in section 'Heads'"):
        page.html()


def test_the_vendored_bundle_is_the_recorded_one_and_fits_the_python_package():
    from plotly.offline import get_plotlyjs_version

    body = plotly_bytes()
    assert hashlib.sha256(body).hexdigest() == PLOTLY_SHA256
    source = gzip.decompress(body).decode()
    assert f"plotly.js (cartesian - minified) v{PLOTLY_VERSION}" in source[:200]
    assert get_plotlyjs_version().split(".")[0] == PLOTLY_VERSION.split(".")[0]
    from importlib import resources

    vendor = resources.files("workbench.views").joinpath("vendor")
    assert "Permission is hereby granted" in vendor.joinpath("plotly-LICENSE.txt").read_text()
    recorded = vendor.joinpath("README.md").read_text()
    assert PLOTLY_SHA256 in recorded and hashlib.sha256(source.encode()).hexdigest() in recorded


def test_the_viewer_is_small_and_has_no_way_out():
    source = viewer_js()
    for word in ("fetch(", "XMLHttpRequest", "import ", "import(", "innerHTML", "eval(", "WebSocket", "sendBeacon"):
        assert word not in source, word
    assert len(viewer_js(()).encode()) <= 10_000, "what every page carries"


def test_a_page_carries_the_views_that_stand_on_it_within_its_budget():
    module = re.search(r'<script type="module">(.*?)</script>', full_page().html(), re.DOTALL)[1]
    assert len(module.encode()) <= MAX_BYTES == 40_000
    assert all(f"views.{kind} = " in module for kind in ("headmap", "table", "tokens", "circuit"))
    small = Page("t", "s", [Section("one", [Command('data-block="headmap"')])]).html()
    assert "views.command = " in small and "views.headmap = " not in small


def test_joining_the_views_changes_comments_and_indentation_only():
    for file in (ROOT / "workbench" / "views" / "viewer").glob("*.js"):
        for line in file.read_text(encoding="utf-8").splitlines():
            assert line.count("`") % 2 == 0, (
                f"{file.name}: a text over several lines would lose its indentation: {line}"
            )
    source = viewer_js()
    assert "/**" not in source and "\n " not in source and "\n\n" not in source
    assert source.rstrip().endswith("}") and source.index("const views") < source.index("views.table")


@pytest.mark.parametrize("shape", [(4, 16), (32, 32), (33, 32)])
def test_head_map_carries_the_numbers_exactly(shape):
    rng = np.random.default_rng(1)
    scores = rng.random(shape)
    scores[rng.random(shape) < 0.05] = np.nan
    samples = rng.random((7, *shape))
    block = HeadMap(scores, samples=samples, low=scores - 0.1, high=scores + 0.1)
    held = data_of(block.html())
    np.testing.assert_array_equal(np.array(held["scores"], dtype=float).reshape(shape), scores)
    back = np.array(held["samples"]).reshape(*shape, 7).transpose(2, 0, 1)
    np.testing.assert_allclose(back, samples, atol=0.5e-4)
    cells = re.findall(r'<td class="num">([^<]*)</td>', block.html())
    shown = ["n/a" if np.isnan(v) else f"{v:.3f}" for v in scores.ravel()]
    assert [cell.split(" ")[0] for cell in cells] == shown
    assert f"{int(np.isnan(scores).sum())} of {scores.size:,} heads" in block.html()


def test_head_map_colours_are_cividis_and_unscored_heads_are_hatched_and_named():
    scores = np.array([[0.0, 1.0, 0.5], [np.nan, np.nan, np.nan], [0.25, np.nan, 0.75]])
    html = HeadMap(scores, limits=(0.0, 1.0)).html()
    fills = re.findall(r'<rect [^>]*fill="(#\w+)"', html)
    assert fills == [hexed(cividis(v)) for v in scores.ravel()]
    assert fills[0] == CIVIDIS[0] and fills[1] == CIVIDIS[-1]
    assert "(all of layer 1, L2H1)" in html
    assert html.count("l27-27") == 4
    assert "Highest score: layer 0 head 1, 1.000" in html


def test_an_all_unscored_map_says_so():
    html = HeadMap(np.full((2, 2), np.nan)).html()
    assert "No head was scored" in html and "0.000" not in html.split("<svg")[1].split("</svg>")[0]


def test_grouped_heads_are_outlined_only_where_there_are_groups():
    scores = np.zeros((2, 8))
    assert HeadMap(scores, kv_heads=2).html().count("h112v28h-112z") == 4
    assert 'class="groups"' not in HeadMap(scores, kv_heads=8).html()
    assert 'class="groups"' not in HeadMap(scores).html()


@pytest.mark.parametrize(
    "make",
    [
        lambda: HeadMap(np.zeros(3)),
        lambda: HeadMap(np.full((1, 1), np.inf)),
        lambda: HeadMap(np.zeros((2, 2)), limits=(1.0, 1.0)),
        lambda: Heatmap(np.zeros((1, 1)), ["a"], ["b"], "x", "y", limits=(1.0, 0.0)),
        lambda: HeadMap(np.zeros((2, 2)), low=np.zeros((2, 2))),
        lambda: HeadMap(np.zeros((2, 2)), samples=np.zeros((3, 2, 4))),
        lambda: HeadMap(np.zeros((2, 2)), samples=np.zeros((3, 2, 2)), sample_labels=["a"]),
        lambda: HeadMap(np.zeros((2, 2)), marked=[(2, 0)]),
        lambda: Table(("a",), ((1, 2),)),
        lambda: Table(("a",), (), heads="b"),
        lambda: Curves([Series("a", [1, 2], [1])], "x", "y", "f"),
        lambda: Curves([Series("a", [1], [1])] * 7, "x", "y", "f"),
        lambda: Heatmap(np.zeros((2, 2)), ["a"], ["b", "c"], "x", "y"),
        lambda: TokenView(["a"], ["h"], ["r"], np.array([[[1]]]), np.array([[[1.0]]])),
        lambda: TokenView(["a"], ["h"], ["r"], np.array([[[0]]]), np.array([[[1.0]]]), {"s": (0, 2)}),
        lambda: TokenView.from_dense(["a"], ["h"], ["r"], np.zeros((1, 1, 2))),
        lambda: Download("../a", ""),
        lambda: mini_html(np.zeros(3), "t"),
        lambda: props(["a"], np.full((1, 1, 1), np.nan)),
        lambda: props(["a"], np.zeros((1, 2, 2))),
    ],
)
def test_what_cannot_be_meant_is_one_line(make):
    with pytest.raises(BadInput) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_table_sorts_by_full_values_and_keeps_missing_apart():
    html = Table(
        ("a", "head"), ((0.12345, "L1H2"), (float("nan"), "L0H0"), (None, "x"), (7, "L2H0")), heads="head"
    ).html()
    assert 'data-key="0.12345">0.123<' in html
    assert html.count('data-key="">n/a<') == 2
    assert 'data-head="1.2"' in html and html.count("headlink") == 3
    tied = Table(("a",), (((0.5, 0.4, 0.6),), ((0.5, float("nan"), 0.6),))).html()
    assert "0.500 [0.400, 0.600]" in tied and ">0.500<" in tied
    tiny = Table(("p",), ((4e-53,), (0.0,), (0.0004,), (0.0006,))).html()
    assert [cell in tiny for cell in (">&lt;0.001<", ">0.000<", ">0.001<", 'data-key="4e-53"')] == [True] * 4
    assert Table(("a",), [(i,) for i in range(30)], limit=25).html().count("<tr hidden>") == 5


def test_curves_hold_the_numbers_and_cut_nothing_off():
    series = [Series("top", [1, 2], [0.9, 1.4], [0.8, 1.1], [1.0, 1.6]), Series("random", [1, 2], [1.0, float("nan")])]
    block = Curves(series, "K", "recall", "finding", marks=[(2, "half")], log_x=True)
    held = data_of(block.html())
    drawn = [t for t in held["data"] if t["mode"] == "lines+markers"]
    assert [t["y"] for t in drawn] == [[0.9, 1.4], [1.0, None]]
    assert held["data"][0]["y"] == [0.8, 1.1] and held["data"][1]["y"] == [1.0, 1.6]
    assert held["layout"]["yaxis"]["range"][1] > 1.6
    assert held["layout"]["shapes"][0]["x0"] == 2
    assert held["layout"]["annotations"][0]["x"] == pytest.approx(np.log10(2))
    assert "1.400 [1.100, 1.600]" in block.html() and ">n/a<" in block.html()
    assert len({t["line"]["color"] for t in drawn} | {t["line"]["dash"] for t in drawn}) == 4


def test_a_logarithmic_axis_shows_what_has_no_place_on_it_at_its_edge():
    series = [Series("a", [1, 2, 3], [1e-5, 0.0, 10.0], [-1e-6, 0.0, 1.0], [1e-4, 1e-3, 100.0])]
    block = Curves(series, "kept", "KL", "finding", caption="n = 3.", y_range=None, log_y=True, digits=5)
    spec = block.spec()
    low, high, curve = spec["data"]
    floor = 1e-5 / 10**0.5
    assert curve["y"] == pytest.approx([1e-5, floor, 10.0]) and low["y"] == pytest.approx([floor, floor, 1.0])
    assert high["y"] == [1e-4, 1e-3, 100.0]
    axis = spec["layout"]["yaxis"]
    assert axis["type"] == "log" and axis["range"][0] < np.log10(floor) and axis["range"][1] > 2
    assert "n = 3. Values of 0 and below stand at the lower edge" in block.html(), "the reader is told"
    assert "0.00000 [0.00000, 0.00100]" in block.html() and curve["text"][1].startswith("0.00000 ["), "not the edge"
    above = Curves([Series("a", [1], [0.5])], "x", "y", "finding", caption="c", y_range=None, log_y=True)
    assert "lower edge" not in above.html() and above.spec()["layout"]["yaxis"]["range"] == pytest.approx(
        [np.log10(0.5) - 0.1, np.log10(0.5) + 0.1]
    )
    linear = Curves(series, "kept", "KL", "finding", y_range=None).spec()
    assert linear["data"][2]["y"] == [1e-5, 0.0, 10.0] and "type" not in linear["layout"]["yaxis"]


def test_heatmap_shows_value_interval_and_n():
    values, counts = np.array([[0.25, np.nan]]), np.array([[8, 0]])
    html = Heatmap(
        values, ["0.5"], ["64", "128"], "depth", "length", counts=counts, low=values - 0.1, high=values + 0.1
    ).html()
    assert "<b>0.25</b><small>0.15–0.35</small><small>n = 8</small>" in html
    assert 'class="missing"><b>n/a</b><small>n = 0</small>' in html
    assert "lowest 0.25 at depth 0.5, length 64" in html


def test_long_contexts_show_windows_around_what_matters():
    rng = np.random.default_rng(2)
    length = 20_000
    keys = rng.integers(0, length, (2, 3, 16))
    weights = np.sort(rng.random((2, 3, 16)), axis=-1)
    tokens = [f"t{i}" for i in range(length)]
    view = TokenView(tokens, ["L0H0", "L1H1"], ["a", "b", "c"], keys, weights, {"needle": (9000, 9010)}, [19_999] * 3)
    shown = view.shown()
    assert shown.sum() <= 1600
    for wanted in (0, 9000, 9009, 19_999, *keys[..., -1].ravel()):
        assert shown[wanted]
    hidden = sum(int(n.replace(",", "")) for n in re.findall(r"… ([\d,]+) tokens? …", view.html()))
    assert hidden == length - shown.sum()
    assert len(view.html()) < 200_000
    assert TokenView(["a"] * 400, ["h"], ["r"], keys[:1, :1] % 400, weights[:1, :1]).shown().all()


def test_token_view_from_dense_keeps_the_largest():
    weights = np.random.default_rng(3).random((1, 2, 50))
    view = TokenView.from_dense(["t"] * 50, ["h"], ["a", "b"], weights, k=5)
    np.testing.assert_array_equal(view.weights, -np.sort(-weights, axis=-1)[..., :5])
    held = data_of(view.html())
    assert held["whole"] is False and np.shape(held["keys"]) == (1, 2, 5)


@pytest.mark.parametrize(
    ("x", "log", "written"),
    [
        ([1, 2, 4], False, ["1", "2", "4"]),
        ([0.134055, 0.5, 0.9], False, ["0.134", "0.5", "0.9"]),
        ([0.2, 0.2001, 0.9], False, None),  # their labels would lie on one another
        ([1, 2, 4, 8, 64], False, None),
        ([1, 2, 4, 8, 64], True, ["1", "2", "4", "8", "64"]),
    ],
)
def test_labels_of_an_axis_never_lie_on_one_another(x, log, written):
    spec = Curves([Series("a", x, [0.5] * len(x))], "x", "y", "finding", log_x=log).spec()
    assert spec["layout"]["xaxis"].get("ticktext") == written


def test_a_scatter_has_the_ends_and_the_line_that_were_asked_for():
    spec = Scatter([Points("a", [1], [2], ["p"])], "x", "y", "finding", segments=(((0, 1, 2, 3), "fit"),)).spec()
    assert [spec["layout"]["shapes"][0][k] for k in ("x0", "y0", "x1", "y1")] == [0, 1, 2, 3]
    assert spec["layout"]["annotations"][0]["text"] == "fit" and "range" not in spec["layout"]["xaxis"]
    spec = Scatter([Points("a", [1], [2], ["p"])], "x", "y", "finding", x_range=(0, 1), y_range=(-1, 4)).spec()
    assert spec["layout"]["xaxis"]["range"] == [0, 1] and spec["layout"]["yaxis"]["range"] == [-1, 4]
