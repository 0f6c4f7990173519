"""Pages, live views and the atlas against the measures of issue 10. Run: python tests/benchmarks/pages.py [quick]

Two synthetic pages through the real page builders, opened from a file in headless Chromium, each in a new context with the
network off: the atlas of 32 × 32 heads with 10 prompts, and the thumbnails of 1,024 heads over 131,072 tokens. `ready` is
when all figures are drawn and listen (`data-ready`), `paint` is the browser's first contentful paint, both from the start of
the navigation; `press` is an arrow key until the frame that shows another head. `heap` is JavaScript memory, `private` all
memory that only the tab's process holds (Linux). A live step is one position of `wb.live.steer` until it is drawn in the
page, Python on the other side. `quick` opens each page twice and leaves the atlas out; it keeps nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import measure
import sample_atlas
from browser_pages import BROWSERS, FLAGS
from notebook_pages import bring_to_life
from playwright.sync_api import Browser, Page, sync_playwright
from sample_patterns import long_view

import workbench as wb
from workbench.live.steering import Steering
from workbench.views import Page as Report
from workbench.views import Section
from workbench.views.steer_view import SteerView

GOALS = {
    "atlas page": {"mb": 2.5, "ready_ms": 1500}, "long page": {"mb": 2.0, "paint_ms": 1000, "private_mib": 200},
    "live step": {"ms": 500}, "atlas": {"seconds": 60},
}  # fmt: skip
OPENINGS = 7
WATCH = """new MutationObserver((_, watch) => {
  if (document.documentElement?.dataset.ready) { window.readyAt = performance.now(); watch.disconnect(); }
}).observe(document, { attributes: true, childList: true, subtree: true, attributeFilter: ["data-ready"] });"""
TIMES = """() => [window.readyAt, performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
  performance.memory.usedJSHeapSize / 2 ** 20, document.querySelectorAll("*").length]"""
PRESS = """(where) => new Promise((done) => {
  const at = performance.now(), place = document.querySelector(where);
  place.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - at)));
})"""
PROMPT = "the red lamp is in the garden . "


def opened(browser: Browser, path: Path, keys: str) -> dict[str, Any]:
    """One opening of a page. keys: what takes the arrow keys."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
    page.wait_for_timeout(500)  # token strings of the long page come after it is ready
    ready, paint, heap, nodes = page.evaluate(TIMES)
    press = page.evaluate(PRESS, keys)
    private = max(_private(browser), default=None)
    context.close()
    return {
        "ready_ms": ready,
        "paint_ms": paint,
        "press_ms": press,
        "heap_mib": heap,
        "private_mib": private,
        "nodes": nodes,
    }


def _private(browser: Browser) -> list[float]:
    """MiB that each renderer alone holds; empty where the system does not say."""
    told = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    out = []
    for one in told:
        rollup = Path(f"/proc/{one['id']}/smaps_rollup")
        if one["type"] == "renderer" and rollup.exists():
            lines = [line.split() for line in rollup.read_text().splitlines() if line.startswith("Private_")]
            out.append(sum(int(line[1]) for line in lines) / 1024)
    return out


def of_page(browser: Browser, work: str, html: str, keys: str, times: int) -> dict[str, Any]:
    """A page opened several times, the first uncounted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(html, encoding="utf-8")
        found = [opened(browser, path, keys) for _ in range(times + 1)][1:]
    figure: dict[str, Any] = {"work": work, "openings": times, "mb": round(len(html.encode()) / 1e6, 3)}
    return figure | {
        name: measure.spread([one[name] for one in found]) for name in found[0] if found[0][name] is not None
    }


def long_page() -> str:
    """1,024 heads over 131,072 tokens."""
    return Report("Patterns", "synthetic", [Section("Attention", [long_view()])]).html()


def live_step(browser: Browser, times: int) -> dict[str, Any]:
    """Positions of both sliders on the bundled llama, a prompt of 256 tokens, 8 new tokens."""
    model = wb.load("llama")
    ids = model.tokens(PROMPT * 40)[:, :256]
    heads = wb.heads.HeadSet(tuple((layer, head) for layer in range(model.n_layers) for head in range(2))).heads
    steering = Steering(model, ids, heads, wb.scale)
    view = SteerView(steering.answer(1.0, len(heads)), [str(h) for h in heads], (0.0, 2.0, 1.0))
    page: Page = browser.new_context(viewport={"width": 1000, "height": 900}, offline=True).new_page()
    bring_to_life(page, view.html(), {"run": lambda a: (steering.answer(a["strength"], int(a["count"])), None)})
    found = []
    for i in range(times + 1):
        strength, start = round(0.05 * (i + 1), 2), time.perf_counter()
        page.locator("input.strength").evaluate(
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(strength)
        )
        page.wait_for_selector(f"figure[data-at='{strength:g},{len(heads)}']")
        found.append(1000 * (time.perf_counter() - start))
    page.context.close()
    return {"work": "live step", "tokens": ids.shape[1], "heads": len(heads), "ms": measure.spread(found[1:])}


def atlas_command() -> dict[str, Any]:
    """`workbench atlas model=llama`, once, start of Python included."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        subprocess.run(["workbench", "atlas", "model=llama", f"out={out}"], check=True, capture_output=True)
        took = time.perf_counter() - start
        (page,) = Path(out).glob("*/report.html")
        return {"work": "atlas", "seconds": round(took, 1), "mb": round(page.stat().st_size / 1e6, 3)}


def met(figure: dict[str, Any]) -> dict[str, Any]:
    """A figure with its goals: the median of each, or the one value, must not be above."""
    goals = GOALS[figure["work"]]
    values = {k: figure[k]["median"] if isinstance(figure[k], dict) else figure[k] for k in goals if k in figure}
    return figure | {"goals": goals, "met": all(values[k] <= goals[k] for k in values)}


def main() -> None:
    """All figures, kept as they come."""
    quick, before = "quick" in sys.argv, measure.load()
    times, figures = (2 if quick else OPENINGS), []
    chromium = next(path for name in BROWSERS if (path := shutil.which(name)))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[*FLAGS, "--enable-precise-memory-info"])
        for figure in (
            lambda: of_page(browser, "atlas page", sample_atlas.atlas().page(), ".fig-headatlas .map", times),
            lambda: of_page(browser, "long page", long_page(), ".fig-patterns .overview", times),
            lambda: live_step(browser, 4 * times),
            *([] if quick else [atlas_command]),
        ):
            figures.append(met(figure()))
            print(figures[-1], flush=True)
            if not quick:
                measure.keep("pages", figures, before)
        version = browser.version
        browser.close()
    if not quick:
        figures.append({"work": "browser", "version": version})
        print(measure.keep("pages", figures, before))


if __name__ == "__main__":
    main()
