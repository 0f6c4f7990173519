"""Data of the page as files: embedded packed, handed out through a Blob, so no server is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.errors import BadInput
from workbench.views.block import data
from workbench.views.text import esc, inline

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Download:
    """A file: its name, its text, and its media type."""

    name: str
    text: str
    media: str = "application/json"

    def __post_init__(self) -> None:
        """Refuse names that could leave the folder that the reader saves to."""
        if not _NAME.fullmatch(self.name):
            raise BadInput(f"download name {self.name!r}: use letters, digits, '.', '_' and '-' only")


@dataclass(frozen=True)
class Downloads:
    """A row of buttons, one per file."""

    files: tuple[Download, ...]
    caption: str = ""
    libraries = ()

    def html(self) -> str:
        """The block as HTML."""
        buttons = "".join(
            f'<button type="button" class="file">{esc(f.name)} <span class="size">{_size(f.text)}</span></button>'
            for f in self.files
        )
        note = f'<p class="note">{inline(self.caption)}</p>' if self.caption else ""
        held = data([[f.name, f.media, f.text] for f in self.files])
        return f'<div data-block="downloads" class="downloads">{buttons}{note}{held}</div>'


def _size(text: str) -> str:
    size = len(text.encode("utf-8", "replace"))
    return f"{size:,} B" if size < 1000 else f"{size / 1000:,.0f} kB"
