"""Slow: axe-core over every kind of page and notebook view, in both schemes: no finding of any level.

axe-core (MPL-2.0) is no part of this project. It is read from the file that WORKBENCH_AXE names (`npm pack axe-core`,
package/axe.min.js), or from the package axe-playwright-python; without either the tests are skipped.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import sample_atlas
from notebook_pages import notebook  # noqa: F401
from sample_looks import looks
from sample_pages import full_page, head_map
from sample_patterns import long_view

from workbench.heads import HeadScores
from workbench.live.choosing import head_picker
from workbench.views import ImageOverlay, Page, Section
from workbench.views.steer_view import SteerView

pytestmark = [pytest.mark.browser, pytest.mark.slow]
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations.flatMap(({ id, impact, nodes }) =>
  nodes.map((node) => `${impact} ${id}: ${node.html.slice(0, 160)} (${node.target.join(" ")})`))"""
OF_THE_HOST = (" region:", "landmark", "page-has-heading", "heading-order")
"""What a notebook gives the outputs in it."""
PAGES = {
    "all blocks": lambda: full_page().html(),
    "atlas": lambda: sample_atlas.atlas(4, 8, 3).page(),
    "patterns": lambda: Page("t", "s", [Section("P", [long_view(4, 8, 1500, 4, 32, 128)])]).html(),
    "pictures": lambda: Page("t", "s", [Section("P", [ImageOverlay([looks()], title="Seen")])]).html(),
}


@pytest.fixture(scope="module")
def axe() -> str:
    named, spec = os.environ.get("WORKBENCH_AXE"), find_spec("axe_playwright_python")
    held = (
        [Path(named)] if named else [] if spec is None else sorted(Path(spec.origin or "").parent.rglob("axe.min.js"))
    )
    if not held:
        pytest.skip("no axe-core: name its axe.min.js in WORKBENCH_AXE, or install axe-playwright-python")
    return held[0].read_text(encoding="utf-8")


def found(page, axe) -> list[str]:
    page.evaluate(axe)
    page.add_style_tag(content="* { transition: none !important; }")
    return page.evaluate(RUN)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", PAGES)
def test_pages(show, axe, kind, scheme):
    assert found(show(PAGES[kind](), 1280, scheme), axe) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_notebook_views(notebook, axe, scheme):  # noqa: F811
    _, scores, _, _ = head_map()
    picker = head_picker(HeadScores(scores, "a score"), [(1, 2)])[0]
    answer = {
        "before": [" red"], "after": [" blue"], "strength": 0.0, "count": 1, "logits": [[" red", 4.25, -0.5]],
        "attention": [[3, " red", 0.5, 0.25]], "read": "Last token reads", "ms": 12,
    }  # fmt: skip
    steer = SteerView(answer, ["L0H1"], (0.0, 2.0, 0.0)).html()
    page = notebook(picker + steer + long_view(2, 4, 300, 2, 16, 64).html(), {}, 900, scheme)
    page.evaluate("document.documentElement.lang = 'en'; document.title = 'notebook'")
    assert [one for one in found(page, axe) if not any(x in one for x in OF_THE_HOST)] == []


def test_axe_finds_what_is_wrong(show, axe):
    page = show(PAGES["patterns"]())
    page.evaluate("document.querySelector('select').parentNode.replaceWith(document.createElement('select'))")
    assert any("select-name" in one for one in found(page, axe))
