"""`workbench formats`: what head scores can be exported to and imported from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import chz

from workbench.command import Command
from workbench.commands.export import Export


@chz.chz
class Formats:
    """No options."""


@dataclass(frozen=True)
class Format:
    """One row: the format's name, what it is for, the file that marks it, what `workbench export` takes for it."""

    name: str
    help: str
    file: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class FormatList:
    """All formats."""

    formats: tuple[Format, ...]

    def __rich__(self) -> Any:
        """The table in the terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table("format", "what", "file", "options", box=None, pad_edge=False)
        for row in self.formats:
            table.add_row(*map(Text, (row.name, row.help, row.file, " ".join(row.options) or "none")))
        return table

    def summary(self) -> dict[str, Any]:
        """The rows as plain values."""
        return {"formats": [asdict(row) for row in self.formats]}


def run(config: Formats) -> FormatList:
    """List what is found in `workbench.exporters`."""
    from workbench.exporters import discover

    typed = chz.chz_fields(Export)
    return FormatList(
        tuple(
            Format(e.name, e.help, e.marker, tuple(name for name in e.options if name in typed))
            for e in discover().values()
        )
    )


COMMAND = Command("formats", "file formats of head scores and their options", Formats, run)
