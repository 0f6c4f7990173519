"""`workbench models`: the bundled models, one line each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command

if TYPE_CHECKING:
    from rich.console import RenderableType


@chz.chz
class ModelsConfig:
    """Nothing to choose."""


@dataclass(frozen=True)
class Models:
    """Bundled models: name, what it is, label, folder, and the bytes on disk; None for what is built on load."""

    rows: tuple[dict[str, Any], ...]

    def __rich__(self) -> RenderableType:
        """A table, then how any other model is named."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("model=", "size", "what it is"):
            table.add_column(title, no_wrap=title != "what it is", justify="right" if title == "size" else "left")
        for row in self.rows:
            table.add_row(Text(row["name"]), Text(_size(row["bytes"])), Text(f"{row['summary']} [{row['label']}]"))
        other = "Any other model: a local Hugging Face folder (model=./folder) or a hub id (model=org/name)."
        return Group(table, Text("\n" + other))

    def summary(self) -> dict[str, Any]:
        """The rows as they are."""
        return {"models": list(self.rows)}


def run(config: ModelsConfig) -> Models:
    """List what is bundled; reads file sizes only, loads no model."""
    from workbench.reference_models.catalogue import BUNDLED, PLANTED, folder

    rows = []
    for name, bundled in BUNDLED.items():
        place = None if name in PLANTED else folder(name)
        facts = {"name": name, "summary": bundled.summary, "label": bundled.label}
        rows.append(facts | {"folder": place and str(place), "bytes": place and _bytes(place)})
    return Models(tuple(rows))


def _size(taken: int | None) -> str:
    if taken is None:
        return "built on load"
    return f"{taken / 1e6:.1f} MB" if taken else "missing"


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


COMMAND = Command("models", "list the bundled models", ModelsConfig, run)
