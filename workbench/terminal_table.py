"""A table of texts in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def terminal_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Any:
    """A rich table whose first `left` columns stand at the left, the others at the right; no markup is read in texts."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
