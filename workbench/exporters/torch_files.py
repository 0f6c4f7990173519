"""What a file of torch.save holds, as long as that is plain: read as data, nothing is unpickled.

A pickle is a list of commands, some of which call functions by name. Here a handful of commands is known, those that make
numbers, texts, lists and dicts; any other ends the reading.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from workbench.untrusted import LARGEST_CONFIG

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file by torch before 1.6: then come a protocol, facts of the machine, and what was saved."""
DATA = "data.pkl"
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def plain_object(data: bytes) -> Any:
    """What was saved, of numbers, texts, lists and dicts. Raises ValueError for anything else."""
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            return _value(io.BytesIO(_member(data)))
        stream = io.BytesIO(data)
        if _value(stream) != MAGIC:
            raise ValueError("it was not saved by torch")
        _, _, held = _value(stream), _value(stream), _value(stream)
        return held
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its commands make no sense ({type(error).__name__})") from None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, struct.error, zlib.error):
        raise ValueError("a damaged archive") from None


def _member(data: bytes) -> bytes:
    """The pickle in the archive. Archives that unfold, or that two readers could read differently, are refused."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = archive.infolist()
        if (whole := sum(part.file_size for part in parts)) > LARGEST_CONFIG:
            raise ValueError(f"it unpacks to {whole >> 20} MiB, which no list of heads has")
        if any(part.compress_type not in _PACKED for part in parts):
            raise ValueError("packed in a way that torch does not")
        held = [part for part in parts if part.filename.rpartition("/")[2] == DATA]
        if len(held) != 1:
            raise ValueError(f"{len(held)} files {DATA} in it, where one is needed")
        return archive.read(held[0])


def _value(stream: BinaryIO) -> Any:
    """What the next pickle makes."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def append(items: list[Any]) -> None:
        _of(list, stack[-1]).extend(items)

    def fill(items: list[Any]) -> None:
        _of(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))

    known: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("PROTO", "FRAME"), lambda arg: None),
        **dict.fromkeys(_CONSTANTS, stack.append),
        "NONE": lambda arg: stack.append(None),
        "NEWTRUE": lambda arg: stack.append(True),
        "NEWFALSE": lambda arg: stack.append(False),
        "EMPTY_LIST": lambda arg: stack.append([]),
        "EMPTY_DICT": lambda arg: stack.append({}),
        "MARK": lambda arg: marks.append(len(stack)),
        **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda arg: memo.__setitem__(arg, stack[-1])),
        "MEMOIZE": lambda arg: memo.__setitem__(len(memo), stack[-1]),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda arg: stack.append(memo[arg])),
        "APPEND": lambda arg: append([stack.pop()]),
        "APPENDS": lambda arg: append(since_mark()),
        "SETITEM": lambda arg: fill([stack.pop(-2), stack.pop()]),
        "SETITEMS": lambda arg: fill(since_mark()),
    }
    for command, arg, _ in pickletools.genops(stream):
        if command.name == "STOP":
            return stack.pop()
        if command.name not in known:
            raise ValueError(f"its command {command.name} makes more than numbers, texts, lists and dicts")
        known[command.name](arg)
    raise ValueError("it has no end")


_CONSTANTS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE")


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"no {kind.__name__}")
    return value
