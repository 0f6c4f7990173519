"""One self-contained page: opens from a file, asks for nothing, and says so in its security policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.errors import TooLarge
from workbench.views.block import Block
from workbench.views.libraries import embedded, library
from workbench.views.text import esc, inline, slug
from workbench.views.viewer_source import kinds_in, viewer_css, viewer_js

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""Nothing may be fetched, from anywhere. What is allowed, and why no more:

script-src 'unsafe-inline': the viewer, and the libraries it unpacks into inline scripts (no eval, no blob: scripts).
style-src 'unsafe-inline': its style sheet, and the style attributes that Plotly and CircuitsVis write.
img-src data: blob:: pictures of head maps, CircuitsVis's attention images, Plotly's picture export.
Files are handed out through Blob addresses, which the policy does not govern.
"""


@dataclass(frozen=True)
class Section:
    """A titled part of a page; `lead` is a sentence or two under the title."""

    title: str
    blocks: Sequence[Block]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A title, a subtitle, sections, and a footer line.

    `html()` raises `TooLarge` where the page exceeds `max_bytes`, and names its largest block.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str = ""
    max_bytes: int = 2_500_000

    def html(self) -> str:
        """The whole document, ready to be written to a `.html` file as UTF-8."""
        anchors = _anchors([section.title for section in self.sections])
        parts = [[block.html() for block in section.blocks] for section in self.sections]
        links = "".join(
            f'<li><a href="#{a}">{esc(s.title)}</a></li>' for a, s in zip(anchors, self.sections, strict=True)
        )
        body = "".join(
            f'<section id="{anchor}"><h2>{esc(section.title)}</h2>{_lead(section.lead)}{"".join(blocks)}</section>'
            for anchor, section, blocks in zip(anchors, self.sections, parts, strict=True)
        )
        names = sorted({name for section in self.sections for block in section.blocks for name in block.libraries})
        text = (
            f"{self._head()}<body><header><h1>{esc(self.title)}</h1><p>{inline(self.subtitle)}</p>"
            f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main>{body}</main>{self._footer(names)}'
            f"{''.join(embedded(name) for name in names)}"
            f'<script type="module">{viewer_js(kinds_in(body))}mount(document);</script></body></html>\n'
        )
        self._check_size(text, parts)
        return text

    def _head(self) -> str:
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
            f"<title>{esc(self.title)}</title><style>{viewer_css()}</style></head>"
        )

    def _footer(self, names: Sequence[str]) -> str:
        held = "; ".join(f"{library(name).licence} (version {library(name).version})" for name in names)
        included = f"<p>Included: {esc(held)}.</p>" if held else ""
        own = f"<p>{inline(self.footer)}</p>" if self.footer else ""
        noscript = "<noscript><p>Scripts are off: tables can be read, figures cannot be drawn.</p></noscript>"
        complete = "<p>This file is complete: it loads nothing from any network.</p>"
        return f"<footer>{own}{complete}{included}{noscript}</footer>"

    def _check_size(self, text: str, parts: Sequence[Sequence[str]]) -> None:
        size = len(text.encode("utf-8"))
        if size <= self.max_bytes:
            return
        largest, title = max(
            (len(html), f"{type(block).__name__} in section {section.title!r}")
            for section, blocks in zip(self.sections, parts, strict=True)
            for block, html in zip(section.blocks, blocks, strict=True)
        )
        raise TooLarge(
            f"the page is {size / 1e6:.1f} MB, over its limit of {self.max_bytes / 1e6:.1f} MB; "
            f"largest: {title}, {largest / 1e6:.1f} MB: give it fewer samples, heads or tokens"
        )


def _lead(text: str) -> str:
    return f'<p class="lead">{inline(text)}</p>' if text else ""


def _anchors(titles: Sequence[str]) -> list[str]:
    """One distinct anchor per title."""
    taken: list[str] = []
    for title in titles:
        base = name = slug(title)
        count = 1
        while name in taken:
            count += 1
            name = f"{base}-{count}"
        taken.append(name)
    return taken
