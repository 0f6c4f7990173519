"""What chosen heads read from a context: its tokens, weighted; long contexts as windows around what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from workbench.errors import BadInput
from workbench.views.block import data, figure
from workbench.views.text import esc, visible

WINDOW = 12
TOP_SHOWN = 8
WHOLE = 400
"""Contexts up to this many tokens are shown whole."""
MAX_SHOWN = 1600


@dataclass(frozen=True, eq=False)
class TokenView:
    """The keys that `heads` read at each of the `rows` (answer tokens), as coloured text and as a list.

    `keys` and `weights` are the largest weights of each row (any number of them; key -1 = no more). A token that is
    shown but is not among the keys of a row has a weight below the smallest of them, and its hover says so.
    `spans` (name -> start, end) are underlined; `positions` are the tokens that do the reading. Tokens are strings as
    the reader should see them. `from_dense` takes whole rows. Raises `BadInput` where shapes do not fit.
    """

    tokens: Sequence[str]
    heads: Sequence[str]
    rows: Sequence[str]
    keys: Int[np.ndarray, "heads rows k"]
    weights: Float[np.ndarray, "heads rows k"]
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    positions: Sequence[int] = ()
    title: str = ""
    caption: str = ""
    libraries = ()

    def __post_init__(self) -> None:
        """Check the shapes."""
        front = (len(self.heads), len(self.rows))
        if np.shape(self.keys)[:2] != front or np.shape(self.weights) != np.shape(self.keys) or 0 in front:
            raise BadInput(f"token view {self.title!r}: keys are {np.shape(self.keys)}, names say {front} + (k,)")
        if self.positions and len(self.positions) != len(self.rows):
            raise BadInput(f"token view {self.title!r}: {len(self.positions)} positions for {len(self.rows)} rows")
        if np.max(self.keys, initial=-1) >= len(self.tokens):
            raise BadInput(f"token view {self.title!r}: key {np.max(self.keys)} in {len(self.tokens)} tokens")
        for name, (start, end) in self.spans.items():
            if not 0 <= start <= end <= len(self.tokens):
                raise BadInput(f"token view {self.title!r}: span {name!r} ({start}, {end}) is outside the tokens")

    @classmethod
    def from_dense(
        cls,
        tokens: Sequence[str],
        heads: Sequence[str],
        rows: Sequence[str],
        weights: Float[np.ndarray, "heads rows tokens"],
        k: int = 512,
        **rest: object,
    ) -> TokenView:
        """From whole attention rows; the `k` largest weights of each are kept."""
        if np.shape(weights) != (len(heads), len(rows), len(tokens)):
            raise BadInput(f"weights are {np.shape(weights)}, names say {(len(heads), len(rows), len(tokens))}")
        keys = np.argsort(-weights, axis=-1, kind="stable")[..., :k]
        return cls(tokens, heads, rows, keys, np.take_along_axis(weights, keys, -1), **rest)  # pyright: ignore

    def html(self) -> str:
        """The block as HTML."""
        body = (
            f'<div class="controls">{_choice("head", self.heads)}{_choice("row", self.rows, "reading token")}</div>'
            '<div class="textandkeys"><div class="tokens" tabindex="0" role="region" aria-label="tokens">'
            f"{self._text()}"
            '</div><div class="keys"></div></div>'
            f'<p class="readout" aria-live="polite"></p>{self._legend()}{data(self._data())}'
        )
        return figure("tokens", self.title, body, self.caption)

    def shown(self) -> Bool[np.ndarray, " tokens"]:
        """Which tokens are shown: everything up to 400, else windows around starts, spans, readers and top keys."""
        count = len(self.tokens)
        if count <= WHOLE:
            return np.ones(count, dtype=bool)
        order = np.argsort(-self.weights, axis=-1, kind="stable")[..., :TOP_SHOWN]
        best = np.take_along_axis(self.keys, order, -1)
        centres = [0, *self.positions, *(p for start, end in self.spans.values() for p in (start, max(start, end - 1)))]
        # Rank by rank, so that the limit on tokens cuts the weakest keys of every row and not the last rows.
        centres += [int(p) for p in best.transpose(2, 0, 1).reshape(-1) if p >= 0]
        mask = np.zeros(count, dtype=bool)
        for centre in centres:
            if mask.sum() + 2 * WINDOW + 1 > MAX_SHOWN:
                break
            mask[max(0, centre - WINDOW) : centre + WINDOW + 1] = True
        return mask

    def _text(self) -> str:
        mask, parts, hidden = self.shown(), [], 0
        names = {p: name for name, (start, end) in reversed(list(self.spans.items())) for p in range(start, end)}
        order = list(self.spans)
        for position, token in enumerate(self.tokens):
            if not mask[position]:
                hidden += 1
                continue
            parts.append(_gap(hidden))
            hidden = 0
            kind = f' class="span{order.index(names[position]) % 3}"' if position in names else ""
            parts.append(f'<span data-p="{position}"{kind}>{esc(visible(token))}</span>')
            if "\n" in token:
                parts.append("<br>")
        return "".join([*parts, _gap(hidden)])

    def _legend(self) -> str:
        names = "".join(
            f'<span class="key"><i class="swatch span{i % 3}"></i>{esc(name)} ({start:,}–{max(start, end - 1):,})'
            "</span>"
            for i, (name, (start, end)) in enumerate(self.spans.items())
        )
        reader = '<span class="key"><i class="swatch reader"></i>reading token</span>' if self.positions else ""
        return (
            '<div class="legend"><span class="unit">attention weight (linear)</span><span class="scale">'
            '<i class="tokenscale"></i><span class="ticks"><span>0</span><span class="top"></span></span></span>'
            f"{names}{reader}</div>"
        )

    def _data(self) -> dict[str, object]:
        named = {name: [start, end] for name, (start, end) in self.spans.items()}
        used = sorted({int(p) for p in np.asarray(self.keys).reshape(-1) if p >= 0})
        return {
            "keys": self.keys,
            "weights": np.round(np.asarray(self.weights, dtype=np.float64), 5),
            "whole": len(self.tokens) <= np.shape(self.keys)[2],
            "positions": list(self.positions),
            "spans": named,
            "texts": {str(p): visible(self.tokens[p]) for p in used},
        }


def _gap(hidden: int) -> str:
    return f'<span class="gap">… {hidden:,} token{"s" if hidden != 1 else ""} …</span>' if hidden else ""


def _choice(name: str, options: Sequence[str], label: str = "") -> str:
    inner = "".join(f'<option value="{i}">{esc(option)}</option>' for i, option in enumerate(options))
    return f'<label>{label or name} <select class="{name}">{inner}</select></label>'
