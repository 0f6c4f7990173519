"""What is typed becomes a value of the type that an option declares; wrong text is said in plain words."""

from __future__ import annotations

import math
import re
import sys
import types
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from workbench.errors import did_you_mean

_COUNT = re.compile(r"([+-]?\d[\d_]*)([kKmM]?)")
_UNITS = {"": 1, "k": 1024, "m": 1024**2}
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NOTHING = ("none", "null")
LARGEST = 2**53
"""Whole numbers up to here are exact in JSON and as floats, and seeds that every generator takes."""
_SHOWN = 40


class NotThat(ValueError):
    """A value that the type does not take; the message is a clause such as `'x' is not a number`."""


def whole_number(text: str) -> int:
    """`4096`, `4_096` or `4k`: k and M are 1,024 and 1,024², as context lengths are counted. Raises NotThat.

    Numbers beyond LARGEST are refused.
    """
    match = _COUNT.fullmatch(text.strip())
    if not match:
        raise NotThat(f"{text!r} is not a whole number")
    digits = match[1].replace("_", "")
    if len(digits) > _SHOWN:  # Python reads long numbers slowly, and those above 4,300 digits not at all
        raise NotThat(f"{digits[:_SHOWN]}… has {len(digits)} digits, which no number here has")
    return _meant(int(digits) * _UNITS[match[2].lower()])


def cast(text: str, kind: Any) -> Any:
    """The value that `text` stands for under the annotation `kind`. Raises NotThat; TypeError for other kinds."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _first_fit(text, inner)
    if origin is Literal:
        return _choice(text, {_written(value): value for value in inner})
    if takes_list(kind):
        return tuple(_items(text, inner))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice(text, {member.name: member for member in kind})
    if kind not in _SCALARS:
        raise TypeError(f"options of type {type_name(kind)} cannot be typed")
    return _SCALARS[kind](text)


def conform(value: Any, kind: Any) -> Any:
    """The same for a value out of a YAML or JSON file: text is cast, lists become tuples, the rest must fit."""
    inner = get_args(kind)
    if isinstance(value, str):
        return cast(value, kind)
    if get_origin(kind) in (Union, types.UnionType):
        for arm in inner:
            try:
                return conform(value, arm)
            except NotThat:
                continue
    elif takes_list(kind) and isinstance(value, (list, tuple)):
        return tuple(conform(item, inner[0] if inner else Any) for item in value)
    elif kind is float:
        if type(value) in (int, float) and abs(value) <= sys.float_info.max:
            return float(value)
    elif (
        (get_origin(kind) is Literal and any(value == one and type(value) is type(one) for one in inner))
        or kind in (Any, object)
        or (kind is type(None) and value is None)
        or (isinstance(kind, type) and type(value) is kind)
    ):
        return _meant(value) if kind is int and isinstance(value, int) else value
    raise NotThat(f"{repr(value)[:200]} is not {type_name(kind)}")


def _meant(value: int) -> int:
    if abs(value) > LARGEST:
        raise NotThat(f"{value} is beyond {LARGEST:,}")
    return value


def type_name(kind: Any) -> str:
    """How help and errors call a type: `int`, `true|false`, `a|b`, `int,int,…`, `text|none`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return "|".join(type_name(arm) for arm in inner)
    if origin is Literal:
        return "|".join(_written(value) for value in inner)
    if takes_list(kind):
        item = type_name(inner[0]) if inner else "text"
        return f"{item},{item},…"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(member.name for member in kind)
    names = {str: "text", bool: "true|false", Path: "path", types.NoneType: "none", Any: "text", object: "text"}
    return names.get(kind) or getattr(kind, "__name__", str(kind))


def choices(kind: Any) -> tuple[str, ...]:
    """The words that an option takes, where it takes only some words (for shell completion)."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return tuple(word for arm in inner for word in choices(arm))
    if kind is bool:
        return ("true", "false")
    if origin is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        return tuple(type_name(kind).split("|"))
    return ()


def takes_path(kind: Any) -> bool:
    """Whether a file or folder is among what an option takes."""
    return kind is Path or any(takes_path(arm) for arm in get_args(kind))


def _written(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def takes_list(kind: Any) -> bool:
    """Whether an option takes any number of values, and only that."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    return origin in (tuple, list, Sequence) and (origin is not tuple or not inner or inner[1:] == (...,))


def _first_fit(text: str, arms: tuple[Any, ...]) -> Any:
    """Text fits everything, so it is tried last."""
    faults = []
    for arm in sorted(arms, key=lambda arm: arm in (str, Path, Any, object)):
        try:
            return cast(text, arm)
        except NotThat as fault:
            faults.append(fault)
        except TypeError:
            continue  # a type for Python callers only, such as a live model
    if str in arms and faults:
        raise faults[-1]  # what was wrong with it as a text
    raise faults[0] if len(arms) <= 2 and faults else NotThat(f"{text!r} is none of these")


def _items(text: str, inner: tuple[Any, ...]) -> list[Any]:
    listed = text.strip()
    if listed[:1] + listed[-1:] in ("[]", "()"):
        listed = listed[1:-1]
    parts = [part.strip() for part in listed.split(",")]
    if parts and not parts[-1]:
        parts.pop()  # `256,` is a list of one
    return [cast(part, inner[0] if inner else str) for part in parts]


def _choice(text: str, known: dict[str, Any]) -> Any:
    for word in (text, text.lower()):
        if word in known:
            return known[word]
    raise NotThat(f"{text!r} is none of {', '.join(known)}.{did_you_mean(text, known)}")


def _text(text: str) -> str:
    if "\0" in text or text != text.encode(errors="ignore").decode():  # what run.json could not hold
        raise NotThat(f"{text!r} holds bytes that are no text (UTF-8): use another name")
    return text


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise NotThat(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise NotThat(f"{text!r} is not a finite number")
    return value


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise NotThat(f"{text!r} is neither true nor false")
    return _TRUTH[text.lower()]


def _nothing(text: str) -> None:
    if text.lower() not in _NOTHING:
        raise NotThat(f"{text!r} is not none")


_SCALARS: dict[Any, Any] = {
    str: _text,
    int: whole_number,
    float: _number,
    bool: _truth,
    Path: lambda text: Path(_text(text)),
    types.NoneType: _nothing,
    Any: _text,
    object: _text,
}
