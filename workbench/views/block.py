"""What a block is, and the frame that all figures share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from workbench.views.text import esc, inline, packed, packed_json


@runtime_checkable
class Block(Protocol):
    """Anything that can stand in a section of a page.

    A block uses no ids (two of a kind may stand on one page): the viewer finds it by `data-block`. A block that needs
    a library names it in `libraries` (see `workbench.views.libraries`); the page embeds each one once.
    """

    @property
    def libraries(self) -> tuple[str, ...]:
        """Names of the script libraries that the block needs."""
        ...

    def html(self) -> str:
        """The block as an HTML fragment in which every text is escaped."""
        ...


def figure(kind: str, title: str, body: str, caption: str = "") -> str:
    """A numbered figure: title, body (HTML), caption (text; `backticks` mark code)."""
    heading = f"<h3>{esc(title)}</h3>" if title else ""
    note = f"<figcaption>{inline(caption)}</figcaption>"
    return f'<figure data-block="{esc(kind)}" class="fig-{esc(kind)}">{heading}{body}{note}</figure>'


def data(value: object) -> str:
    """A script element that never executes and carries `value` as packed JSON for the viewer."""
    return f'<script type="application/octet-stream" class="data">{packed_json(value)}</script>'


def blob(name: str, content: bytes) -> str:
    """A script element that never executes and carries packed bytes for the viewer (`bytesOf` reads them)."""
    return f'<script type="application/octet-stream" class="bytes" data-name="{esc(name)}">{packed(content)}</script>'


def disclosure(summary: str, body: str) -> str:
    """A closed `<details>` with `body` (HTML) inside, scrolling sideways if it must."""
    return f'<details><summary>{esc(summary)}</summary><div class="scroll" tabindex="0">{body}</div></details>'
