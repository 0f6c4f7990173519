"""Amounts of memory as people write them."""

from __future__ import annotations

import math
import re

from workbench.errors import BadInput

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def bytes_of(text: str, name: str = "memory") -> int:
    """Bytes of `2GB`, `500 MiB`, `1e9`. Raises BadInput, naming the option, for what is no amount above zero."""
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?i?)b?\s*", text, re.IGNORECASE)
    try:
        value = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    except (ValueError, KeyError, OverflowError):
        value = 0
    if value < 1:
        raise BadInput(f"{name}={text}: give an amount such as 2GB or 500MiB")
    return value


def amount(size: int) -> str:
    """Bytes as `bytes_of` takes them, rounded up: 12.4MB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{math.ceil(10 * size / unit) / 10:g}{name}"
    return f"{size}B"
