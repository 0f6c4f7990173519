"""Shards: the arrays of one unit of work as safetensors bytes, and the checks on reading them back."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from workbench.jsonable import digest, jsonable

_KINDS = "biuf"  # booleans, integers and floats: what safetensors can hold of numpy


class Damaged(Exception):
    """A shard that is not what was written; the message says how."""


def pack(arrays: Mapping[str, np.ndarray], notes: dict[str, str]) -> bytes:
    """Arrays of any layout as safetensors bytes. Raises TypeError for text and objects."""
    packed: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        values = np.asarray(array, order="C")
        if values.dtype.kind not in _KINDS:
            raise TypeError(f"array {name!r} of type {values.dtype} cannot be stored: numbers and booleans only")
        packed[name] = values.astype(values.dtype.newbyteorder("="), copy=False)
    return safetensors.numpy.save(packed, metadata=notes)


def checked(path: Path, sha256: str) -> bytes:
    """The bytes of a shard. Raises Damaged if it is missing or its checksum differs, OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Damaged("is missing") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged("is corrupt (its checksum differs)")
    return data


def depending(unit: str, on: Any) -> str:
    """The name of a unit whose work looks at what earlier units gave, by all of that (JSON-able: lists, arrays).

    An earlier unit that is lost may give something else when it is made again: what was made of the old is another unit.
    """
    return f"{unit}-{digest(jsonable(on))[:8]}"


def file_name(unit: str) -> str:
    """A file name of its own for every unit, also where names ignore case."""
    return f"{slug(unit)}-{hashlib.sha256(unit.encode()).hexdigest()[:8]}.safetensors"


def slug(text: str) -> str:
    """A short readable name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "unnamed"


def model_slug(model: str) -> str:
    """`slug` of a model's name; of a local folder only its last part."""
    return slug(os.path.basename(os.path.realpath(model)) if os.path.isdir(model) else model)
