"""The pages of the documentation: their blocks of code, their commands, and a run of a page as it is written.

A page's python blocks run in order in one namespace, in a folder of their own. A block below a line that is only a path
(`` `PATH`: ``) is not run but written there: beside the page's script, or into the package that the path names. A block
that begins with `# not run: REASON` is left out.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"(?:^`(?P<file>[\w./-]+)`:\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
NOT_RUN = re.compile(r"# not run: \S")
SHELL = ("", "sh", "bash", "console")


@dataclass(frozen=True)
class Block:
    """A fenced block. file: where the page says that it goes."""

    kind: str
    text: str
    file: str | None

    @property
    def runs(self) -> bool:
        return self.kind == "python" and self.file is None and not NOT_RUN.match(self.text)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(m["kind"], m["text"], m["file"]) for m in FENCE.finditer(page.read_text(encoding="utf-8"))]


def commands(page: Path) -> list[str]:
    """The `workbench …` lines of a page: of its blocks for a shell and of its inline code, without what explains them."""
    lines = [
        line for block in blocks(page) if block.kind in SHELL for line in block.text.replace("\\\n", " ").splitlines()
    ]
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    parts = [part.strip() for line in lines for part in re.split(r"\s{2,}|\s# |&&", line)]
    return [part for part in parts if part.startswith("workbench ")]


def run(page: Path, folder: Path, monkeypatch: Any) -> dict[str, Any]:
    """Run a page as it is written; returns its names."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {"__name__": page.stem}
    for i, block in enumerate(blocks(page)):
        if block.kind == "python" and block.file is not None:
            _put(folder, Path(block.file), block.text, monkeypatch)
        elif block.runs:
            exec(compile(block.text, f"{page.name}, block {i}", "exec"), names)
    return names


def _put(folder: Path, file: Path, text: str, monkeypatch: Any) -> None:
    """Write a file; one in a package of ours is found as if it lay there, until the test ends."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if file.parent.parts:
        package = importlib.import_module(".".join(file.parent.parts))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
    module = ".".join(file.with_suffix("").parts)
    monkeypatch.setitem(sys.modules, module, None)  # so that what is imported under this name goes with the test
    del sys.modules[module]
    importlib.invalidate_caches()
