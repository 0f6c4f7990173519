"""Slow: the page that each analysis writes about a planted or bundled model, sound at two widths and in both schemes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sound_pages import unsound

pytestmark = [pytest.mark.browser, pytest.mark.slow]
COMMANDS = (
    "scan-heads model=planted-copy proof=none",
    "scan-sinks model=planted-sink",
    "calibrate model=planted-calibrate",
    "trace-circuit model=planted-ioi",
    "simulate model=llama context=256",
    "scan-visual model=llava",
    "atlas model=llama",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_an_analysis(show, tmp_path, command):
    done = subprocess.run(["workbench", *command.split(), f"out={tmp_path}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (report,) = Path(tmp_path).glob("*/report.html")
    for width, scheme in ((1280, "light"), (390, "dark")):
        page = show(report.read_text(encoding="utf-8"), width, scheme)
        assert unsound(page) == []
        page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
