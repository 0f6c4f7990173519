"""Strict JSON from the values that results hold: tuples, paths, numpy numbers and arrays, NaN."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Set
from enum import Enum
from pathlib import PurePath
from typing import Any

_COMMANDING = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What JSON lets stand, besides what it escapes: DEL, the C1 controls, and those that turn the direction of text."""
_EXACT = 2**53  # up to here every whole float is exactly one integer


def jsonable(value: Any) -> Any:
    """The value in JSON's own types; NaN and infinities become null (never a number).

    Objects with `to_json()` are asked for it; numpy scalars and arrays are unpacked. Raises TypeError.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Enum):
        return jsonable(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key): jsonable(item) for key, item in value.items()}
    for unpack in ("to_json", "tolist"):
        if hasattr(value, unpack):
            return jsonable(getattr(value, unpack)())
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, Set):
        return sorted((jsonable(item) for item in value), key=repr)
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON text of `jsonable(value)`; characters that command a terminal are written out (\\u009b)."""
    text = json.dumps(jsonable(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _COMMANDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def canonical(value: Any) -> str:
    """One text for one meaning: sorted keys, no spaces, 1.0 as 1. Raises ValueError on NaN or infinity."""
    _refuse_nan(value)
    return json.dumps(_whole(jsonable(value)), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """16 hexadecimal digits of plain values, to tell one from another."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _key(key: Any) -> str:
    if isinstance(key, (bool, int, float)) or key is None:
        return json.dumps(key, allow_nan=False)
    if isinstance(key, str):
        return key
    raise TypeError(f"{type(key).__name__} cannot be a key in JSON")


def _refuse_nan(value: Any, where: str = "") -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where or 'the value'} is {value}, which cannot be part of a question")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_nan(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, (list, tuple, Set)):
        for item in value:
            _refuse_nan(item, where)
    elif callable(unpack := getattr(value, "tolist", None)):
        _refuse_nan(unpack(), where)


def _whole(value: Any) -> Any:
    """1.0 and 1 ask the same question, whoever typed it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value
