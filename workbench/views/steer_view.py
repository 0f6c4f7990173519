"""Two sliders over an intervention and what it changes; they move where a kernel listens, else the view stands still."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.views.block import data, figure
from workbench.views.text import esc, number


@dataclass(frozen=True)
class SteerView:
    """`answer`: what one position gives (texts, logits, attention: see `workbench.live.steering.Steering.answer`).

    heads: names in the order in which the second slider takes them. strength: (lowest, highest, shown) of the first.
    """

    answer: Mapping[str, Any]
    heads: Sequence[str]
    strength: tuple[float, float, float]
    title: str = "Intervention"
    caption: str = ""
    libraries = ()

    def html(self) -> str:
        """The block as HTML."""
        low, high, value = self.strength
        sliders = _slider("strength", low, high, (high - low) / 40, value) + _slider(
            "count", 0, len(self.heads), 1, len(self.heads), "heads of the list"
        )
        body = (
            f'<div class="controls">{sliders}</div><p class="note">Edited: <span class="heads"></span></p>'
            f'<div class="answer" aria-live="polite"></div>{data(dict(self.answer))}'
        )
        held = figure("steer", self.title, body, self.caption)
        return held.replace("<figure ", f'<figure data-heads="{esc(json.dumps(list(self.heads)))}" ', 1)

    def static(self) -> str:
        """The same without sliders or script, for notebooks that are read where no kernel runs."""
        a = self.answer
        logits = _table(("token", "unchanged", "edited"), [(w, number(x, 2), number(y, 2)) for w, x, y in a["logits"]])
        reads = [(w, f"{p:,}", number(x), number(y)) for p, w, x, y in a["attention"]]
        return (
            '<div style="font:13px system-ui,sans-serif;overflow-wrap:anywhere">'
            f"<p><b>{esc(self.title)}</b>: strength {number(float(a['strength']), 2)} on {esc(' '.join(self.heads))}</p>"
            f"<p>unchanged: {esc(' '.join(a['before']))}</p><p>edited: {esc(' '.join(a['after']))}</p>"
            f"{logits}{_table(('token', 'position', 'unchanged', 'edited'), reads, a['read'])}</div>"
        )


def _slider(name: str, low: float, high: float, step: float, value: float, label: str = "") -> str:
    ends = f'min="{low:g}" max="{high:g}" step="{step:g}" value="{value:g}"'
    return f'<label>{label or name} <input type="range" class="{name}" {ends}> <output></output></label>'


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], title: str = "Next token: logits") -> str:
    head = "".join(f"<th>{esc(n)}</th>" for n in names)
    body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<p><b>{esc(title)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
