"""A block of a page as a notebook output: the page in a frame of its own, which asks nothing of the notebook."""

from __future__ import annotations

from workbench.views.block import Block
from workbench.views.page import Page, Section
from workbench.views.text import esc


def framed(block: Block, title: str, height: int) -> str:
    """An `<iframe>` that holds the whole page with one block. height: in pixels; the frame scrolls where it needs more."""
    page = Page(title, "", [Section(title, [block])]).html()
    return (
        f'<iframe title="{esc(title)}" srcdoc="{esc(page)}" sandbox="allow-scripts allow-downloads" '
        f'style="width:100%;height:{height}px;border:0" loading="lazy"></iframe>'
    )
