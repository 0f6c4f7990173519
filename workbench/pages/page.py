"""One offline page: sections of escaped HTML under a policy that forbids every request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """A heading with HTML below it, made by the blocks of this package."""

    title: str
    html: str


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole page as text."""
    here = Path(__file__).parent
    style, script = (here / "page.css").read_text(), (here / "page.js").read_text()
    body = "".join(f"<section><h2>{escape(s.title)}</h2>{s.html}</section>" for s in sections)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p class='sub'>{escape(subtitle)}</p>{body}</main><script>{script}</script></body></html>"
    )


def prose(*paragraphs: str) -> str:
    """Plain paragraphs."""
    return "".join(f"<p>{escape(p)}</p>" for p in paragraphs)


def code(text: str) -> str:
    """A line to copy."""
    return f"<pre><code>{escape(text)}</code></pre>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table; what is not text is set as a number."""
    head = "".join(f"<th scope='col'>{escape(h)}</th>" for h in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    note = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<div class='wide'><table>{note}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
