"""The line that reproduces the page, with a copy button."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.views.text import esc, inline


@dataclass(frozen=True)
class Command:
    """One command line (or a few) to copy, with an optional note below."""

    line: str
    note: str = ""
    libraries = ()

    def html(self) -> str:
        """The block as HTML."""
        note = f'<p class="note">{inline(self.note)}</p>' if self.note else ""
        return (
            '<div data-block="command" class="command">'
            f'<pre tabindex="0"><code>{esc(self.line)}</code></pre>'
            f'<button type="button" class="copy">Copy</button>{note}</div>'
        )
