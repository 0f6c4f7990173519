"""A headless Chromium for tests, and pages in it that count every request, error and dialog.

tests/conftest.py makes the fixtures known to every test file; each file that uses them shares one browser.
"""

from __future__ import annotations

import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--disable-quic --no-first-run --force-color-profile=srgb"
).split()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium on the path (looked for {', '.join(BROWSERS)})")
    with sync_api.sync_playwright() as driver:
        held = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield held
        held.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens HTML from a file; collects every request, error, warning and dialog; closes all at the end."""
    contexts = []

    def open_page(html, width=1280, scheme="light", hash="", wait=True):
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.requests, page.faults = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("dialog", lambda dialog: (page.faults.append("dialog"), dialog.dismiss()))
        page.goto(f"{path.as_uri()}{hash}")
        if wait:
            page.wait_for_selector("html[data-ready]", state="attached", timeout=30_000)
        return page

    yield open_page
    for context in contexts:
        context.close()


OVERFLOW = """() => {
  const width = document.documentElement.clientWidth, boxed = ".scroll, pre, .tokens, svg, .circuitsvis";
  const outside = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > width + 1);
  return [document.documentElement.scrollWidth - width, outside.filter((e) => !e.closest(boxed)).map((e) => e.outerHTML)];
}"""
"""How far the page is wider than the window, and what stands out of it without a box that scrolls: [0, []] is right."""
