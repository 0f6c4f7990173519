"""Files from elsewhere: read whole, up to a size, as text or strict JSON. Nothing here runs or unpickles anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.errors import BadInput

LARGEST = 256 * 2**20
"""Bytes that a score file may have: the published ones have up to 4 MB."""
DIGITS = 40
"""Digits of a whole number; more would not fit a float."""
LARGEST_CONFIG = 16 * 2**20
"""Bytes that a pattern or a config may have."""


def read_bytes(path: Path, most: int = LARGEST_CONFIG) -> bytes:
    """A file of at most `most` bytes. Raises BadInput in one line."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror})") from None
    if len(data) > most:
        raise BadInput(f"{path} is larger than {most >> 20} MiB, which no such file is: it is not read")
    return data


def read_text(path: Path, what: str, most: int = LARGEST_CONFIG) -> str:
    """The same as UTF-8 text. what: what the file should be, for the message."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not {what}: {error}") from None


def read_json(path: Path, what: str = "a JSON file", most: int = LARGEST_CONFIG) -> Any:
    """A JSON value: no NaN, no key twice. Raises BadInput in one line."""
    try:
        text = read_text(path, what, most)
        return json.loads(text, parse_constant=_refuse, parse_int=_whole, object_pairs_hook=_once)
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not {what}: {' '.join(str(error).split())}") from None


def parsed(text: str) -> Any:
    """A JSON value, also NaN. Raises ValueError, also where it is nested more deeply than anything that is meant."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"{digits[:DIGITS]}… has {len(digits)} digits, which no number here has")
    return int(digits)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number; leave the entry out instead")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in pairs:
        if name in record:
            raise ValueError(f"{name!r} stands there twice")
        record[name] = value
    return record
