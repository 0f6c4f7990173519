"""Running text, key facts and the verdict line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workbench.views.text import esc, inline


@dataclass(frozen=True)
class Prose:
    """A verdict line (`callout`), paragraphs, and facts as a two-column list, in this order.

    `tone` colours the edge of the callout; it never carries meaning alone. Backticks mark code in every text.
    """

    paragraphs: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    callout: str = ""
    tone: Literal["neutral", "good", "warn"] = "neutral"
    libraries = ()

    def html(self) -> str:
        """The block as HTML."""
        callout = f'<p class="callout {esc(self.tone)}">{inline(self.callout)}</p>' if self.callout else ""
        text = "".join(f"<p>{inline(paragraph)}</p>" for paragraph in self.paragraphs)
        facts = "".join(f"<div><dt>{esc(k)}</dt><dd>{inline(str(v))}</dd></div>" for k, v in self.facts.items())
        facts = f'<dl class="facts">{facts}</dl>' if facts else ""
        return f'<div class="prose">{callout}{text}{facts}</div>'
