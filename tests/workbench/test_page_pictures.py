"""Every kind of page and notebook view, at two widths and in both schemes: sound, and photographed.

The pictures lie in pytest's temporary folder, or in the folder that WORKBENCH_PICTURES names.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from notebook_pages import notebook  # noqa: F401
from sample_pages import full_page
from sample_patterns import long_view
from sound_pages import unsound

from workbench.heads import HeadScores
from workbench.live.choosing import head_picker
from workbench.views import Page, Section
from workbench.views.steer_view import SteerView

pytestmark = pytest.mark.browser
ANSWER = {
    "before": [" red", ".", "<img src=x onerror=alert(1)>"], "after": [" blue", ".", " The"], "strength": 0.0, "count": 2,
    "logits": [[" red", 4.25, -0.5], ["</script>", 1.0, 2.0]], "attention": [[3, " red", 0.5, 0.25], [120, "<s>", 0.1, 0.0]],
    "read": "Last token reads (mean of 2 heads)", "ms": 12,
}  # fmt: skip


def picker():
    scores = HeadScores.from_samples(np.random.default_rng(0).random((5, 4, 16)), "a score", kv_heads=4)
    return head_picker(scores, [(1, 2)])[0]


def pages():
    whole = full_page()
    patterns = Section("Patterns", [long_view(4, 8, 1500, 4, 32, 128), long_view(12, 12, 700, 0, 16)])
    return Page(whole.title, whole.subtitle, [*whole.sections, patterns]).html()


def views():
    steer = SteerView(ANSWER, ["L0H1", "L2H5"], (0.0, 2.0, 0.0), caption="n = 1")
    return picker() + steer.html() + long_view(2, 4, 300, 2, 16, 64).html()


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = Path(os.environ.get("WORKBENCH_PICTURES") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages(show, album, width, scheme):
    page = show(pages(), width, scheme)
    assert unsound(page) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.screenshot(path=album / f"page-{width}-{scheme}.png", full_page=True)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".controls:visible, .save:visible, nav:visible").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [900, 390])
def test_notebook_views(notebook, album, width, scheme):  # noqa: F811
    page = notebook(views(), {"region": lambda asked: ({"error": "no kernel here"}, None)}, width, scheme)
    assert unsound(page) == []
    page.screenshot(path=album / f"notebook-{width}-{scheme}.png", full_page=True)


def test_the_checks_can_fail(show):
    page = show(Page("t", "s", [Section("P", [long_view(2, 4, 300, 2, 16, 64)])]).html())
    assert unsound(page) == []
    for change, said in {
        "document.querySelector('.field canvas').width = 300": "blank canvas",
        "document.querySelector('.field').removeAttribute('aria-label')": "no name",
        "document.querySelector('select').parentNode.replaceWith(document.createElement('select'))": "no label",
        "document.querySelector('h3').remove(); document.querySelector('figcaption').textContent = ''": "no title",
        "document.querySelector('p').style.width = '3000px'": "wider than the window",
        "document.querySelector('.save button').replaceWith(document.createElement('button'))": "no words",
        "console.error('oops')": "console: oops",
    }.items():
        before = unsound(page)
        page.evaluate(change)
        assert any(said in fault for fault in set(unsound(page)) - set(before)), said
