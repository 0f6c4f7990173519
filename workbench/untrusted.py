"""Files from elsewhere: regular files, read whole, up to a size, as text, strict JSON or plain YAML.

Nothing here runs or unpickles anything. docs/threat-model.md says what is promised.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

from workbench.errors import BadInput

LARGEST = 256 * 2**20
"""Bytes that a score file may have: the published ones have up to 4 MB."""
LARGEST_CONFIG = 16 * 2**20
"""Bytes that a pattern or a config may have."""
LARGEST_YAML = 2**20
"""Bytes of YAML, which is read slowly."""
LARGEST_DATA = 4 * 2**30
"""Bytes that a user's data may have: COCO's instances have 450 MB."""
DIGITS = 40
"""Digits of a whole number; more would not fit a float."""
DEEPEST = 64
"""Lists in lists in lists: what is read is worked through by functions that call themselves."""
_HOLDERS = (dict, list, tuple, set)
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def text_of(path: str | Path, most: int = LARGEST_DATA) -> str:
    """UTF-8 text with ends of lines as in Python. Raises OSError, whose strerror says what is wrong, UnicodeDecodeError."""
    return _bytes(path, most).decode().replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path, most: int = LARGEST_CONFIG) -> bytes:
    """A file of at most `most` bytes. Raises BadInput in one line."""
    try:
        return _bytes(path, most)
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror})") from None


def read_text(path: Path, what: str, most: int = LARGEST_CONFIG) -> str:
    """The same as UTF-8 text. what: what the file should be, for the message."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not {what}: {error}") from None


def read_json(path: Path, what: str = "a JSON file", most: int = LARGEST_CONFIG) -> Any:
    """A JSON value: finite numbers, no key twice. Raises BadInput in one line."""
    try:
        return parsed(read_text(path, what, most), object_pairs_hook=once)
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{path} is not {what}: {' '.join(str(error).split())}") from None


def parsed(text: str, **how: Any) -> Any:
    """A JSON value: finite numbers of a sane length, nested no more deeply than anything that is meant.

    how: other hooks of json.loads. Raises ValueError.
    """
    hooks = {"parse_constant": _refuse, "parse_int": _whole, "parse_float": _finite} | how
    try:
        value = _shallow(json.loads(text, **hooks))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _HALF.search(text):
        _encodable(value)
    return value


def parsed_yaml(text: str) -> Any:
    """Plain values out of YAML: no key twice, no aliases (a few lines of them unfold to gigabytes). Raises ValueError."""
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("aliases (*name) are not read: write the value out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            once([(str(key.value), None) for key, _ in node.value if not key.tag.endswith(":merge")])
            return super().construct_mapping(node, deep)

        def construct_yaml_int(self, node: Any) -> int:
            if len(node.value) > DIGITS:  # in base 60, 1:1:1:…, they take minutes
                raise ValueError(f"{node.value[:DIGITS]}… has {len(node.value)} digits, which no number here has")
            return super().construct_yaml_int(node)

    Plain.add_constructor("tag:yaml.org,2002:int", Plain.construct_yaml_int)
    if len(text) > LARGEST_YAML:
        raise ValueError(f"larger than {LARGEST_YAML >> 20} MiB, which no such file is")
    try:
        return _shallow(yaml.load(text, Plain))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:  # PyYAML raises what it likes for odd words: AttributeError for a wrong date
        raise ValueError(f"not YAML ({' '.join(str(error).split())[:200]})") from None


def printable(text: str, also: str = "") -> str:
    """Text without characters that command a terminal, which are written out; those of `also` are kept."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in also or c == "\xa0" else ascii(c)[1:-1] for c in text)


def _bytes(path: str | Path, most: int) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to would never open
    except ValueError:
        raise OSError(errno.EINVAL, "no file has such a name", str(path)) from None
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        kind = "Is a directory" if stat.S_ISDIR(about.st_mode) else "it is no regular file: save it as one"
        raise OSError(errno.EINVAL, kind, str(path))
    with os.fdopen(handle, "rb") as stream:
        data = stream.read(min(most, about.st_size) + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB, which no such file is", str(path))
    if len(data) > about.st_size:
        raise OSError(errno.EINVAL, "it grows while it is read, or the system makes it up", str(path))
    return data


def _encodable(value: Any) -> None:
    """Half a surrogate pair can stand in JSON, and can be written nowhere."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half a character in a text: a surrogate without its other half") from None


def _shallow(value: Any) -> Any:
    level = [value]
    for _ in range(DEEPEST):
        held = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, _HOLDERS)]
        level = [x for inner in held for x in inner if isinstance(x, _HOLDERS)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"{digits[:DIGITS]}… has {len(digits)} digits, which no number here has")
    return int(digits)


def _finite(word: str) -> float:
    if not math.isfinite(value := float(word)):
        raise ValueError(f"{word[:DIGITS]} is too large for a number")
    return value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number; leave the entry out instead")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A hook of `parsed` for objects: no key twice."""
    record: dict[str, Any] = {}
    for name, value in pairs:
        if name in record:
            raise ValueError(f"{name!r} stands there twice")
        record[name] = value
    return record
