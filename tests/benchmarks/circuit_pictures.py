"""The two figures of docs/circuits.md. Run: python tests/benchmarks/circuit_pictures.py

Estimates of effects where attention saturates (two minutes, kept as figures), and what `planted_truth.py` found behind
louder and louder decoys. Drawn as any page of ours is, in a headless Chromium.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import measure
from playwright.sync_api import sync_playwright
from workbench_analyses.circuits.saturation import saturation, saturation_curves

from workbench.views.curves import Curves, Series
from workbench.views.page import Page, Section

DOCS = Path(__file__).parents[2] / "docs"
TASK, HEAD, PROMPTS = "ioi", (1, 0), 32
"""An inhibition head: it works through an attention that saturates."""
WANTED = ("precision", "recall")


def estimates() -> Curves:
    """One head's effect, exactly and by gradients, against the saturation of attention."""
    before, rows = measure.load(), saturation(n=PROMPTS)
    figures: dict[tuple[Any, ...], dict[str, Any]] = {}
    for r in rows:
        own = {"task": r.task, "head": f"{r.head[0]}.{r.head[1]}", "role": r.role, "beta": r.beta}
        figures.setdefault(tuple(own.values()), own)[r.method] = round(r.share, 4)
    measure.keep("saturation", [{"complete": True}, *figures.values()], before)
    return saturation_curves(rows, TASK, HEAD)


def decoys() -> Curves:
    """Precision and recall of heads and edges against the loudness of decoys, mean over the traces kept so far."""
    held: dict[str, Any] = json.loads((measure.RESULTS / "planted_truth.json").read_text())["norms"]
    by_norm: dict[float, list[dict[str, Any]]] = {}
    for key, one in held.items():
        by_norm.setdefault(float(key.split()[1]), []).extend(one["cases"])
    norms = sorted(norm for norm, cases in by_norm.items() if cases)
    series = [
        Series(f"{column}, {what}", norms, [_mean([c[column][what] for c in by_norm[n]]) for n in norms])
        for column in ("patching", "edges", "ablation") for what in WANTED
    ]  # fmt: skip
    last = ", ".join(f"{s.name} {s.y[-1]:.2f}" for s in series)
    return Curves(
        series, "norm of a decoy's write, of a mover's", "precision or recall", f"at {norms[-1]:g}: {last}",
        "Planted circuits behind louder decoys", "", (0.8, 1.0),
    )  # fmt: skip


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    """Draw both and put them beside the page."""
    made = {"saturation": estimates(), "decoys": decoys()}
    page = Page("Circuits", "", [Section(name, [curves]) for name, curves in made.items()])
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        file = Path(folder) / "page.html"
        file.write_text(page.html(), encoding="utf-8")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 900, "height": 800}, color_scheme="light")
        tab.goto(file.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        tab.add_style_tag(content="details, figcaption, :has(> button) { display: none !important; }")
        for name, figure in zip(made, tab.locator("figure").all(), strict=True):
            figure.screenshot(path=DOCS / f"circuits-{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
