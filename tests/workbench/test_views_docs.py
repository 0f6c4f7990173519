"""docs/views.md as written: the example of a new view works."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
from sound_pages import unsound

from workbench.views import Page, Section, viewer_source

TEXT = (Path(__file__).parents[2] / "docs" / "views.md").read_text(encoding="utf-8")


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.browser
def test_the_example_of_a_view(show, monkeypatch):
    module = types.ModuleType("stripe_view")
    monkeypatch.setitem(sys.modules, "stripe_view", module)
    exec(blocks("python")[2], module.__dict__)
    known = viewer_source._sources(".js")
    added = {".js": (*known, ("stripe", blocks("js")[0])), ".css": viewer_source._sources(".css")}
    monkeypatch.setattr(viewer_source, "_sources", added.__getitem__)
    block = module.StripeView([0.5, 1.0, 0.25], "</script>Stripe", "n = 3")
    page = show(Page("t", "s", [Section("One", [block])]).html())
    assert page.evaluate("[...document.querySelectorAll('.fig-stripe rect')].map((r) => r.getAttribute('opacity'))") == [
        "0.5", "1", "0.25",
    ]  # fmt: skip
    assert page.locator(".save button").all_inner_texts() == ["CSV", "SVG", "PNG"]
    assert [fault for fault in unsound(page) if "labels" not in fault] == []
