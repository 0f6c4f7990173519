"""Live views: what they answer against the plain model, and the viewer in a notebook output with a kernel behind it."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import tiny_models
import torch
from notebook_pages import notebook  # noqa: F401

import workbench as wb
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.live.choosing import head_picker
from workbench.live.steering import Steering
from workbench.live.widget import answered, module
from workbench.live.zooming import answers, exact_row, finer, largest
from workbench.views import Page, Section, long_patterns, pattern_probes
from workbench.views.pattern_picture import static_html
from workbench.views.pattern_tiles import weights_of
from workbench.views.steer_view import SteerView


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, 97, (1, 24), generator=torch.Generator().manual_seed(0))


class Words:
    """A tokenizer that names ids."""

    def decode(self, ids):
        return f"<w{int(ids[0])}>"


@pytest.fixture(scope="module")
def steering(llama, ids):
    llama.tokenizer, kept = Words(), llama.tokenizer
    yield Steering(llama, ids, wb.heads.HeadSet(((0, 1), (2, 5), (1, 3))).heads, wb.scale)
    llama.tokenizer = kept


@torch.no_grad()
def by_hooks(model, ids, heads, gain):
    """Last logits and patterns of the plain bridge, with the outputs of heads multiplied."""
    found = {}

    def scaled(z, hook, some):
        wide = z.unflatten(-1, (8, -1)).clone() if z.dim() == 3 else z.clone()
        wide[:, :, some] *= gain
        return wide.reshape(z.shape)

    edited = {i: [head for layer, head in heads if layer == i] for i in range(3)}
    hooks = [(f"blocks.{i}.attn.hook_z", functools.partial(scaled, some=some)) for i, some in edited.items() if some]
    hooks += [(f"blocks.{i}.attn.hook_pattern", lambda p, hook: found.__setitem__(hook.name, p)) for i in range(3)]
    logits = model.bridge.run_with_hooks(ids, fwd_hooks=hooks)[0, -1]
    return logits, [found[f"blocks.{i}.attn.hook_pattern"][0, :, -1] for i in range(3)]


def patterns_of(model, ids):
    """Whole patterns of the plain bridge, [heads, queries, keys] of each layer."""
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(3)]
    with torch.no_grad():
        _, cache = model.bridge.run_with_cache(ids, names_filter=names)
    return [cache[name][0] for name in names]


@pytest.mark.parametrize(("strength", "count"), [(0.0, 2), (1.7, 3), (1.0, 1), (0.5, 0)])
def test_a_position_of_the_sliders_is_what_the_plain_model_says(steering, llama, ids, strength, count):
    answer = steering.answer(strength, count)
    heads = steering.heads[:count]
    before, _ = by_hooks(llama, ids, (), 1.0)
    after, patterns = by_hooks(llama, ids, heads, strength)
    for word, old, new in answer["logits"]:
        token = int(word.strip("<w>"))
        assert old == pytest.approx(before[token].item(), abs=2e-4) and new == pytest.approx(
            after[token].item(), abs=2e-4
        )
    assert answer["logits"][0][0] == f"<w{int(after.argmax())}>" == answer["after"][0]
    assert answer["before"][0] == f"<w{int(before.argmax())}>"
    mean = torch.stack([patterns[layer][head] for layer, head in heads or steering.heads]).mean(0)
    for key, word, _, new in answer["attention"]:
        assert new == pytest.approx(mean[key].item(), abs=2e-5) and word == f"<w{int(ids[0, key])}>"
    assert (answer["logits"] != steering.answer(1.0, 3)["logits"]) == (count > 0 and strength != 1.0)


def test_what_the_sliders_cannot_mean_is_an_answer_of_one_line(steering):
    with pytest.raises(BadInput, match="4 heads: the list has 3"):
        steering.answer(1.0, 4)
    answers = {"run": lambda asked: (steering.answer(asked["strength"], asked["count"]), None)}
    back, payload = answered(answers, {"id": 3, "name": "run", "request": {"strength": 1.0, "count": 9}})
    assert back["id"] == 3 and "the list has 3" in back["answer"]["error"] and payload == []
    broken = {"run": lambda asked: ({"x": 1 / asked}, None), "nan": lambda asked: ({"x": float("nan")}, None)}
    back, _ = answered(broken, {"id": 4, "name": "run", "request": 0})
    assert back == {"id": 4, "answer": {"error": "ZeroDivisionError: division by zero"}}
    assert answered(broken, {"id": 5, "name": "nan", "request": 0})[0]["answer"] == {"x": None}


def test_a_zoom_is_the_exact_part_of_the_pattern(llama, ids):
    _, patterns = by_hooks(llama, ids, (), 1.0)
    answer, payload = finer(llama, ids, {"head": [2, 5], "queries": [16, 24], "keys": [0, 24]})
    assert answer["tile"] == [2 * 8 + 5, 16, 0, 1, 1, 8, 24, 1]
    last = weights_of(np.frombuffer(payload, np.uint8).reshape(8, 24))[-1]
    np.testing.assert_allclose(last, patterns[2][5], rtol=0.13, atol=1.1e-6)
    with pytest.raises(BadInput, match="outside the text"):
        finer(llama, ids, {"head": [0, 0], "queries": [20, 25], "keys": [0, 24]})
    pairs = largest(llama, ids, {"head": [1, 3], "queries": [10, 20], "keys": [2, 8]})[0]["pairs"]
    part = patterns_of(llama, ids)[1][3, 10:20, 2:8]
    assert [w for *_, w in pairs] == pytest.approx(part.flatten().topk(10).values.tolist(), abs=2e-6)
    assert all(part[q - 10, k - 2].item() == pytest.approx(w, abs=2e-6) for q, k, w in pairs)
    keys = exact_row(llama, ids, {"head": [2, 5], "query": 23})[0]["keys"]
    assert len(keys) == 24 and all(patterns[2][5][key].item() == pytest.approx(w, abs=2e-6) for key, w in keys)


def test_static_pictures_hold_no_script_and_stay_small(llama, ids, steering):
    words = ["</script><img src=x onerror=alert(1)>", *(f"t{i}" for i in range(23))]
    view = long_patterns(wb.observe(llama, ids, pattern_probes()), words)
    steer = SteerView(steering.answer(0.0, 3), ["L0H1", "L2H5", "L1H3"], (0.0, 2.0, 1.0))
    for html in (static_html(view), steer.static()):
        assert "<script" not in html and "onerror=alert(1)>" not in html and len(html) < 60_000
    assert static_html(view).count("<img ") == 1 and "data:image/png" in static_html(view)


def value(page, where, number):
    page.locator(where).evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", number)


@pytest.mark.browser
def test_sliders_run_the_model_and_the_newest_position_wins(notebook, steering):  # noqa: F811
    view = SteerView(steering.answer(1.0, 3), [str(h) for h in steering.heads], (0.0, 2.0, 1.0))
    ran = []

    def run(asked):
        ran.append(asked["strength"])
        return steering.answer(asked["strength"], asked["count"]), None

    page = notebook(view.html(), {"run": run})
    page.locator("input.strength").evaluate("""(e) => {
      for (const v of [1.9, 1.5, 1.1, .7, 0]) { e.value = v; e.dispatchEvent(new Event("input")); }
    }""")
    page.wait_for_selector("figure[data-at='0,3']")
    assert ran[0] == 1.9 and ran[-1] == 0.0 and len(ran) == 2
    want = steering.answer(0.0, 3)
    got = page.locator(".answer table").first.locator("tbody tr").first.inner_text().split()
    assert got == [want["logits"][0][0], *(f"{v:.2f}".replace("-", "\u2212") for v in want["logits"][0][1:])]
    value(page, "input.count", "1")
    page.wait_for_selector("figure[data-at='0,1']")
    assert page.inner_text(".heads") == "L0H1" and page.locator("mark").count() == sum(
        a != b for a, b in zip(steering.answer(0.0, 1)["before"], steering.answer(0.0, 1)["after"], strict=True)
    )
    assert page.faults == []


@pytest.mark.browser
def test_a_head_map_hands_its_selection_to_python(notebook):  # noqa: F811
    scores = HeadScores.from_samples(np.random.default_rng(0).random((5, 3, 8)), "a score")
    html, given = head_picker(scores, [(2, 7)])
    page = notebook(html, {}, heads=[[2, 7]])
    best = scores.top(1).heads[0]
    assert page.evaluate("model.values.chosen") == list(best) and page.inner_text("button.toggle") == f"Add {best}"
    page.locator(".cells rect").nth(11).click(force=True)
    assert page.evaluate("model.values.chosen") == [1, 3]
    page.click("button.toggle")
    assert page.evaluate("model.values.heads") == [*given, [1, 3]] == [[2, 7], [1, 3]]
    page.evaluate("model.values.chosen = [2, 7]; model.handlers['change:chosen']()")
    assert page.inner_text("button.toggle") == "Remove L2H7" and page.inner_text(".readout").startswith("L2H7")
    page.click("button.toggle")
    assert page.evaluate("model.values.heads") == [[1, 3]] and page.faults == []
    page.evaluate("model.values.heads = [[0, 2], [1, 5]]; model.handlers['change:heads']()")
    assert page.locator(".list button").all_inner_texts() == ["L0H2", "L1H5"], "Python may set the list, too"
    outside = page.evaluate("getComputedStyle(document.body).maxWidth")
    assert outside == "none", "the styles stay inside"


@pytest.mark.browser
def test_a_zoom_asks_python_for_finer_blocks(notebook, llama, ids):  # noqa: F811
    view = long_patterns(
        wb.observe(llama, ids, pattern_probes(n=4, fine=0)), [f"t{i}" for i in range(24)], heads=[(2, 2)]
    )
    page = notebook(view.html(), answers(llama, ids))
    page.wait_for_function(
        "document.querySelector('div').shadowRoot.querySelector('.where').textContent.includes('blocks 1 × 1')"
    )
    page.evaluate("model.values.chosen = [1, 1]; model.handlers['change:chosen']()")
    page.evaluate("model.values.chosen = [2, 2]; model.handlers['change:chosen']()")
    page.wait_for_function("model.sent.length >= 2")
    page.wait_for_function(
        "document.querySelector('div').shadowRoot.querySelector('.where').textContent.includes('blocks 1 × 1')"
    )
    assert (
        page.inner_text(".where").startswith("L2H2, mass: queries 0–23 × keys 0–23; finest blocks 1 × 1")
        and page.faults == []
    )
    assert page.locator(".keys h4").count() == 0, "the whole text lists nothing"
    page.click("button[data-zoom='0.5']")
    page.wait_for_function("document.querySelector('div').shadowRoot.querySelector('.keys h4')")
    (q0, q1), (k0, k1) = (map(int, x.split("–")) for x in re.findall(r"\d+–\d+", page.inner_text(".where"))[:2])
    best = patterns_of(llama, ids)[2][2, q0 : q1 + 1, k0 : k1 + 1].max()
    query, reader, key, read, weight = (
        page.locator(".keys table").last.locator("tbody tr").first.inner_text().split("\t")
    )
    assert (reader, read, weight) == (f"t{query}", f"t{key}", f"{best:.3f}") and q0 <= int(query) <= q1
    page.click("button[data-zoom='0']")
    page.select_option("select.row", "0")
    page.evaluate("model.values.chosen = [0, 4]; model.handlers['change:chosen']()")
    page.wait_for_function("model.sent.includes('row')")
    page.wait_for_function("document.querySelector('div').shadowRoot.querySelector('.keys table')")
    top = page.locator(".keys tbody tr").first.inner_text().split("\t")
    row = patterns_of(llama, ids)[0][4, 23]
    assert top[1] == f"t{int(row.argmax())}" and top[2] == f"{row.max():.3f}" and page.faults == []


@pytest.mark.browser
def test_keys_that_are_pressed_in_a_view_stay_there(notebook, steering):  # noqa: F811
    """JupyterLab moves between cells with the arrows and prevents what they do by themselves."""
    view = SteerView(steering.answer(1.0, 3), [str(h) for h in steering.heads], (0.0, 2.0, 1.0))
    page = notebook(view.html(), {"run": lambda asked: (steering.answer(asked["strength"], asked["count"]), None)})
    page.evaluate(
        "window.heard = []; document.addEventListener('keydown', (e) => { heard.push(e.key); e.preventDefault(); })"
    )
    page.locator("input.strength").focus()
    for key in ("ArrowLeft", "ArrowDown", "d"):
        page.keyboard.press(key)
    page.wait_for_selector("figure[data-at='0.9,3']")
    assert page.evaluate("heard") == []
    page.keyboard.press("Control+s")
    page.keyboard.press("Shift+Enter")
    assert page.evaluate("heard") == ["Control", "s", "Enter"] and page.faults == []


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "other"), [("light", "false"), ("dark", "true")])
def test_a_view_is_as_dark_as_its_notebook(notebook, llama, ids, scheme, other):  # noqa: F811
    view = long_patterns(wb.observe(llama, ids, pattern_probes()), [f"t{i}" for i in range(24)])
    page = notebook(view.html(), answers(llama, ids), scheme=scheme)
    paper = "getComputedStyle(document.querySelector('div').shadowRoot.querySelector('.page')).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(22, 24, 27)"
    assert page.evaluate(paper) == (light if scheme == "light" else dark), "where the notebook says nothing"
    page.evaluate("(light) => { document.body.dataset.jpThemeLight = light; }", other)
    page.wait_for_function(f"{paper} === '{dark if scheme == 'light' else light}'")
    assert page.evaluate("document.querySelector('div').style.colorScheme") == (
        "dark" if scheme == "light" else "light"
    )
    page.emulate_media(media="print")
    assert page.evaluate(paper) == light and page.faults == []


def test_the_module_carries_only_what_it_shows():
    source = module(Page("t", "s", [Section("a", [])]).html())
    assert "views.headmap = " not in source and "export default" in source and len(source) < 40_000


def test_anywidget_shows_both_the_live_view_and_the_static_one(steering, llama):
    pytest.importorskip("anywidget", reason="anywidget is not installed: the shell is tested where it is")
    scores = HeadScores.from_samples(np.random.default_rng(0).random((5, 3, 8)), "a score")
    from workbench.live import choose_heads

    widget = choose_heads(scores, [(0, 1)])
    bundle = widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data and "<img" in data["text/html"]
    assert widget.heads == [[0, 1]]
