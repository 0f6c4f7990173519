"""Text into HTML: the only place where strings from models and users become markup."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

NOT_SCORED = "n/a"
_UNSAFE_IN_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
"""All else that is unsafe there is not ASCII, and escaped already."""
_PICTURES = {"\n": "↵", "\r": "␍", "\t": "⇥"}


def esc(text: object) -> str:
    """`text` safe between tags and inside a quoted attribute; characters that HTML cannot hold become U+FFFD."""
    return html.escape("".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in str(text)))


def inline(text: str) -> str:
    """Escaped text in which `backticks` mark code."""
    parts = str(text).split("`")
    return "".join(f"<code>{esc(part)}</code>" if i % 2 else esc(part) for i, part in enumerate(parts))


def visible(token: str) -> str:
    """A token as a reader can see it (not yet escaped): line ends, tabs and control characters get a picture.

    Bidirectional overrides would otherwise reorder the text around them, and zero-width tokens would vanish.
    """
    shown = []
    for c in token:
        hidden = unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        shown.append(_PICTURES.get(c) or (f"\\u{ord(c):04x}" if hidden else c))
    return "".join(shown)


def number(value: float | int | None, digits: int = 3) -> str:
    """A number for the reader: integers whole, floats with `digits` decimals, None and NaN as `n/a`."""
    value = _python(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOT_SCORED
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:.{digits}f}"
    return text.replace("-", "\u2212", 1) if float(text) != 0 else text.lstrip("-")


def _python(value: Any) -> Any:
    """A numpy scalar or array as plain Python; float32 is no `float` and int64 no `int` to isinstance."""
    return value.tolist() if hasattr(value, "tolist") else value


def interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """`0.820 [0.790, 0.851]`, or the value alone where the bounds are NaN."""
    if math.isnan(value) or math.isnan(low) or math.isnan(high):
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def slug(text: str) -> str:
    """A name for an anchor: lower-case ASCII letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity replaced by None and numpy values by plain ones, ready for JSON."""
    value = _python(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(v) for v in value]
    return value


def script_json(value: Any) -> str:
    """JSON that can stand inside `<script>`: no `<`, `>`, `&` or line separators in it; NaN becomes null."""
    try:  # a walk in Python over every number of a map takes ten times as long, and most maps hold no NaN
        text = _dumped(value)
    except (ValueError, TypeError):
        text = _dumped(finite(value))
    return text.translate(_UNSAFE_IN_SCRIPT)


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_listed)


def _listed(value: Any) -> Any:
    """Of what `json` does not know: numpy's values, other mappings and sequences."""
    if isinstance(value, Mapping):
        return dict(value)
    plain = list(value) if isinstance(value, Sequence) else _python(value)
    if plain is value:
        raise TypeError(f"{type(value).__name__} is no JSON")
    return plain


def packed(data: bytes) -> str:
    """gzip + base64, the form in which the page carries data and libraries (`unpack` in core.js reads it)."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode("ascii")


def packed_json(value: Any) -> str:
    """`script_json` packed: read back by the viewer with `JSON.parse`, never executed."""
    return packed(script_json(value).encode("ascii"))
