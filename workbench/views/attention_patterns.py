"""CircuitsVis attention patterns of a short text, unpacked only when the reader opens them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput, TooLarge
from workbench.views.block import data, figure
from workbench.views.libraries import CIRCUITSVIS
from workbench.views.text import esc, visible

MAX_TOKENS = 128
MAX_HEADS = 32


@dataclass(frozen=True, eq=False)
class AttentionPatterns:
    """Whole attention maps of at most 32 heads over at most 128 tokens, with token hover.

    CircuitsVis draws on a light ground with one hue per head and without labels for screen readers, so it waits in a
    closed `<details>`; `TokenView` tells the same to every reader. Raises `TooLarge` and `BadInput` (see `props`).
    """

    tokens: Sequence[str]
    attention: Float[np.ndarray, "heads queries keys"]
    head_names: Sequence[str]
    title: str = ""
    caption: str = ""
    libraries = (CIRCUITSVIS,)

    def __post_init__(self) -> None:
        """Check the shapes."""
        props(self.tokens, self.attention, self.head_names)

    def html(self) -> str:
        """The block as HTML."""
        held = data(props(self.tokens, self.attention, self.head_names))
        what = f"Whole attention maps: {len(self.head_names)} heads × {len(self.tokens)} tokens (CircuitsVis)"
        frame = '<div class="circuitsvis scroll" tabindex="0"></div>'
        body = f"<details><summary>{esc(what)}</summary>{frame}</details>{held}"
        return figure("attention", self.title, body, self.caption)


def props(
    tokens: Sequence[str],
    attention: Float[np.ndarray, "heads queries keys"],
    head_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """What CircuitsVis's `AttentionPatterns` is given: weights rounded to three decimals (a third of the size).

    Tokens are HTML-escaped here because CircuitsVis writes them as markup (`dangerouslySetInnerHTML` in its
    AttentionTokens.tsx): a token `<img src=x onerror=…>` would run, and `<s>` would vanish.

    Raises `TooLarge` above 128 tokens or 32 heads, and `BadInput` where the shapes do not fit.
    """
    attention = np.asarray(attention, dtype=np.float64)
    if len(tokens) > MAX_TOKENS or (attention.ndim == 3 and attention.shape[0] > MAX_HEADS):
        raise TooLarge(
            f"CircuitsVis draws at most {MAX_TOKENS} tokens x {MAX_HEADS} heads, not {len(tokens)} x "
            f"{attention.shape[0]}; crop, or use wb.views.long_patterns for longer texts"
        )
    if attention.ndim != 3 or attention.shape[1:] != (len(tokens), len(tokens)):
        raise BadInput(
            f"attention is {attention.shape}; {len(tokens)} tokens need [heads, {len(tokens)}, {len(tokens)}]"
        )
    names = list(head_names) if head_names is not None else [f"Head {i}" for i in range(attention.shape[0])]
    if len(names) != attention.shape[0]:
        raise BadInput(f"{len(names)} head names for {attention.shape[0]} heads")
    if not np.isfinite(attention).all():
        raise BadInput("attention holds NaN or infinity; CircuitsVis cannot draw it")
    return {"tokens": [esc(visible(t)) for t in tokens], "attention": _rounded(attention), "headLabels": names}


def _rounded(attention: Float[np.ndarray, "heads queries keys"]) -> list[list[list[float]]]:
    """Nested lists with `0` for zeros: four bytes fewer than `0.0` in half of a causal map."""
    return [[[v if v else 0 for v in row] for row in head] for head in np.round(attention, 3).tolist()]
