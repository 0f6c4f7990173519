"""What a picture takes while it is told, read, or heads are put out: by this pictures are counted out to a budget of memory.

Of the language model; vision towers are not counted.
"""

from __future__ import annotations

from typing import Any

from workbench.footprint import cache_bytes, forward_bytes, head_dim, stream_bytes

GROWING = 3
"""Caches at a time while one grows by a token: it, its longer copy, and what a library holds of them."""


def telling_bytes(model: Any, tokens: int, longest: int) -> int:
    """Bytes that a row takes while up to `longest` tokens are said behind a prompt of so many tokens."""
    return forward_bytes(model, tokens) + GROWING * cache_bytes(model, tokens + longest)


def reading_bytes(model: Any, tokens: int, parts: int, steps: int) -> int:
    """Bytes that a caption takes in `read`: attention on each part of the picture, twice, and head outputs seven times.

    tokens: of its prompt, `parts` of them of the picture. steps: of the caption.
    """
    width = head_dim(model) * model.dtype.itemsize
    rows = model.n_layers * model.n_heads * steps
    return forward_bytes(model, tokens + steps) + rows * (2 * 4 * parts + 7 * width)


def contrast_bytes(model: Any, tokens: int, kept: int) -> int:
    """Bytes that a caption takes while one head is put out. tokens: of its row. kept: rows of logits."""
    return forward_bytes(model, tokens, kept) + stream_bytes(model, tokens)
