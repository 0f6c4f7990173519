"""Slow: the live views in a real JupyterLab: they show, answer the keys and the kernel, and are as dark as its theme."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CELLS = (
    "import numpy as np, workbench as wb\nfrom workbench.heads import HeadScores\nmodel = wb.load('planted-copy')\n"
    "scores = HeadScores.from_samples(np.random.default_rng(0).random((5, model.n_layers, model.n_heads)), 'a score')",
    "picked = wb.live.choose_heads(scores)\npicked",
    "text = 'the red lamp . ' * 8\nwb.live.steer(model, text, scores.top(4))",
    "wb.live.zoom_patterns(model, text)",
    "picked.observe(lambda change: open('picked.txt', 'w').write(str(change['new'])), 'heads')",
)
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
RAN = """() => [...document.querySelectorAll(".jp-InputPrompt")].every((e) => /\\d/.test(e.textContent))"""
PAPER = """(e) => getComputedStyle(e.getRootNode().querySelector(".page")).backgroundColor"""


@pytest.fixture
def lab(tmp_path):
    """The address of a notebook with CELLS, served with the dark theme from an empty home."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    cells = [nbformat.v4.new_code_cell(text) for text in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), tmp_path / "live.ipynb")
    themes = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    themes.mkdir(parents=True)
    (themes / "themes.jupyterlab-settings").write_text('{"theme": "JupyterLab Dark"}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = "--no-browser --allow-root --ServerApp.token= --ServerApp.password= --ServerApp.port_retries=0".split()
    home = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *words, f"--port={port}", f"--ServerApp.root_dir={tmp_path}"],
        env={**os.environ, **home, "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}/lab/tree/live.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def opened(browser, address):
    """The notebook, all cells run; a window that holds them all, for JupyterLab draws only what is seen."""
    for _ in range(120):
        try:
            urlopen(address).close()
            break
        except OSError:
            time.sleep(0.5)
    page = browser.new_context(viewport={"width": 1280, "height": 5000}, color_scheme="light").new_page()
    page.goto(f"{address}?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    asked = page.get_by_role("button", name="Select", exact=True)  # which kernel; not every JupyterLab asks
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").or_(asked).first.wait_for(timeout=90_000)
    page.wait_for_timeout(3000)
    if asked.count():
        asked.click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    for kind in ("headmap", "steer", "patterns"):
        page.wait_for_selector(f"figure[data-block={kind}]", timeout=180_000)
    page.wait_for_function(RAN)
    return page


def test_views_answer_in_a_notebook(browser, lab, tmp_path):
    page = opened(browser, lab)
    strength, head_map = page.locator("input.strength"), page.locator("figure[data-block=headmap] .map")
    assert head_map.evaluate(PAPER) == "rgb(22, 24, 27)", "the notebook is dark, the system is not"
    strength.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("figure[data-at='0.9,4']")
    before = head_map.get_attribute("data-chosen")
    head_map.focus()
    page.keyboard.press("ArrowLeft" if before.endswith(".7") else "ArrowRight")
    layer, head = head_map.get_attribute("data-chosen").split(".")
    page.click(f"button.toggle:has-text('Add L{layer}H{head}')")
    for _ in range(60):
        if (tmp_path / "picked.txt").exists():
            break
        time.sleep(0.5)
    assert (tmp_path / "picked.txt").read_text() == f"[[{layer}, {head}]]", "Python has what was picked"
    page.click("button[data-zoom='0.5']")
    page.wait_for_selector(".fig-patterns .keys h4")
    assert page.locator(".fig-patterns .keys tbody tr").count() == 10
    page.context.close()
