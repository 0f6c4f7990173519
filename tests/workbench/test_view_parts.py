"""What the blocks are made of: text, colours, pictures; and the notebook outputs."""

from __future__ import annotations

import base64
import json
import re
import zlib
from types import MappingProxyType

import numpy as np
import pytest

from workbench.errors import TooLarge
from workbench.views.colours import NO_SCORE, OKABE_ITO, cividis, ink_on, rgb
from workbench.views.notebook import attention_circuitsvis, mini_html
from workbench.views.png import png_uri
from workbench.views.text import esc, finite, interval, number, packed_json, script_json, visible


def test_numbers_for_readers():
    assert number(float("nan")) == "n/a" and number(None) == "n/a"
    assert number(np.float32("nan")) == "n/a" and number(np.float32(0.5)) == "0.500" and number(np.int64(3)) == "3"
    assert number(-0.5) == "\u22120.500" and number(-0.0001) == "0.000" and number(12345) == "12,345"
    assert interval(0.5, 0.4, 0.6, 1) == "0.5 [0.4, 0.6]"
    assert visible("a\nb\u202e\t") == "a↵b\\u202e⇥"
    assert esc("\ud800\0") == "\ufffd\ufffd"
    assert script_json({"a": [float("nan"), "<\u2028&"]}) == '{"a":[null,"\\u003c\\u2028\\u0026"]}'
    assert packed_json([1]) == packed_json([1])


def test_script_json_is_the_same_with_and_without_a_nan_beside():
    rng = np.random.default_rng()
    held = {
        "array": rng.random((3, 2)).astype(np.float32), "number": np.float64(rng.random()), "whole": np.int64(7), 3: (1, 2),
        "text": "</script>\u2029é", "mapping": MappingProxyType({"a": [np.bool_(True), None]}), "range": range(3),
    }  # fmt: skip
    alone, beside = script_json(held), script_json({"nan": np.float32("nan"), **held})
    assert beside == '{"nan":null,' + alone[1:] and "<" not in alone and "\\u2029" in alone
    assert json.loads(alone) == json.loads(json.dumps(finite(held)))
    assert script_json({np.int64(4): [np.array([np.inf, 1])]}) == '{"4":[[null,1.0]]}'
    with pytest.raises(TypeError):
        script_json([object()])


def test_text_on_colours_has_contrast():
    flat = [rgb(colour) for colour in (*OKABE_ITO, NO_SCORE, "#ffffff")]
    for colour in [*flat, *(cividis(float(share)) for share in np.linspace(0, 1, 101))]:
        assert _contrast(colour, (0, 0, 0) if ink_on(colour) == "#000000" else (255, 255, 255)) >= 4.5
    assert len(set(OKABE_ITO)) == 6


def _contrast(a, b) -> float:
    def light(colour):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_png_holds_the_pixels():
    pixels = np.random.default_rng(4).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    raw = base64.b64decode(png_uri(pixels).split(",")[1])
    start = raw.index(b"IDAT") + 4
    size = int.from_bytes(raw[start - 8 : start - 4], "big")
    lines = np.frombuffer(zlib.decompress(raw[start : start + size]), np.uint8).reshape(5, 22)
    np.testing.assert_array_equal(lines[:, 1:].reshape(5, 7, 3), pixels)


@pytest.mark.parametrize("shape", [(2, 4), (16, 16), (32, 32), (80, 64)])
def test_mini_html_is_small_and_complete(shape):
    scores = np.random.default_rng(5).random(shape)
    scores[0, 0] = np.nan
    html = mini_html(scores, "<b>title", low=scores - 0.1, high=scores + 0.1, kv_heads=2)
    assert len(html.encode()) <= 30_000
    assert "http" not in html and "<b>" not in html and "<script" not in html
    best = int(np.nanargmax(scores))
    assert f"<td>1</td><td>L{best // shape[1]}H{best % shape[1]}</td>" in html
    assert html.count("</tr>") == 1 + min(10, scores.size - 1) and f"1 of {scores.size:,} heads" in html
    drawn = base64.b64decode(re.search(r"data:image/svg\+xml;base64,([^\"]+)", html)[1]).decode()
    assert drawn.count("<rect") >= scores.size if scores.size <= 256 else "<image" in drawn
    assert "<svg" not in html, "an untrusted notebook would show its texts instead"
    assert html == mini_html(scores, "<b>title", low=scores - 0.1, high=scores + 0.1, kv_heads=2)


def test_circuitsvis_output_is_escaped_closed_rounded_and_bounded():
    tokens = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>"]
    html = attention_circuitsvis(tokens, np.full((1, 2, 2), 1 / 3))
    assert html.count("<script") == 1 and html.count("</script") == 1 and "<img" not in html
    assert re.match(r'<div id="workbench-\w+" style="[^"]*"></div>', html)
    assert "0.333]" in html and "0.3333" not in html and "unpkg" not in html
    for tokens, heads in ((129, 1), (4, 33)):
        with pytest.raises(TooLarge, match="at most 128 tokens x 32 heads"):
            attention_circuitsvis(["a"] * tokens, np.zeros((heads, tokens, tokens)))
