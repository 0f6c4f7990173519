"""`workbench formats`: what head scores can be exported to and imported from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import chz

from workbench.command import Command


@chz.chz
class Formats:
    """No options."""


@dataclass(frozen=True)
class Format:
    """One row: the format's name, what it is and who reads it, its file, the heads it names.

    heads: "kv" or "query" of a cut, "scores" where nothing is cut. extra: options of the format alone.
    """

    name: str
    help: str
    file: str
    heads: str
    extra: tuple[str, ...]


@dataclass(frozen=True)
class FormatList:
    """All formats."""

    formats: tuple[Format, ...]

    def __rich__(self) -> Any:
        """The table in the terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("format", "what, and who reads it", "file", "extra=", box=None, pad_edge=False)
        for row in self.formats:
            table.add_row(*map(Text, (row.name, row.help, row.file, " ".join(row.extra))))
        cuts = "a cut is sparsity=, threshold=, budget= or recall= (workbench export --help); all formats are read, too"
        return Group(table, Text(cuts))

    def summary(self) -> dict[str, Any]:
        """The rows as plain values."""
        return {"formats": [asdict(row) for row in self.formats]}


def run(config: Formats) -> FormatList:
    """List what is found in `workbench.exporters`."""
    from workbench.exporters import discover

    return FormatList(
        tuple(Format(e.name, e.help, e.marker, e.level or "scores", e.own_options) for e in discover().values())
    )


COMMAND = Command("formats", "file formats of head scores and their options", Formats, run)
