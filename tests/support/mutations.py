"""Damage for files: bytes flipped, cut and doubled; values of JSON replaced, dropped, doubled and nested."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Raw:
    """Text that stands in JSON as it is, sound or not."""

    text: str


@dataclass(frozen=True)
class Twice:
    """An object with one key two times."""

    held: Mapping[str, Any]
    key: str
    value: Any


HOSTILE = (
    None, True, False, 0, -1, 1, 7, 0.5, -0.0, 2**31, 2**63, 10**30, "", "x", "1", "nan", "\0", "../../x", "/etc/passwd",
    "<script>alert(1)</script>\x1b[31m", "é" * 300, "\ud800", [], {}, [[]], [None], {"": {}}, {"a": 1}, [1, "x"],
    Raw("9" * 5000), Raw("NaN"), Raw("-Infinity"), Raw("1e999"), Raw("1e-999"), Raw("[" * 3000 + "]" * 3000),
    Raw('{"a":' * 100 + "1" + "}" * 100), Raw("nonsense"), Raw("[1,]"),
)  # fmt: skip
TOKENS = (
    b"", b"\0", b"\xff\xfe", b"NaN", b"1e999", b"-1", b"\t", b"\n", b"\r", b"\n\n", b"9" * 400, b"[" * 2000, b"{}", b"null",
    b"\x80\x04c", b"__import__('os').abort()", b"&a [*a]", b"!!python/object/apply:os.abort []", b"2020-13-45",
    b"!!timestamp x", b"!!int x",
    b"!!binary x", b"? {a: b}\n", b"\xed\xa0\x80", b"\xef\xbb\xbf",
)  # fmt: skip


def parsed(data: bytes) -> Any:
    """The JSON value in bytes; None for anything else, and for a lone number or text."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def written(value: Any) -> str:
    """As JSON, with Raw and Twice as they are."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Twice):
        return written(dict(value.held))[:-1] + f", {json.dumps(value.key)}: {written(value.value)}}}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value inside; of long lists only the first three."""
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, held in inner:
        yield from places(held, (*above, key))


def with_at(value: Any, way: tuple[Any, ...], change: Any) -> Any:
    """A copy in which what stands at a place is what `change` makes of its holder and key."""
    if not way:
        return change(None, None, value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(way) == 1:
        return change(copy, way[0], copy[way[0]])
    copy[way[0]] = with_at(copy[way[0]], way[1:], change)
    return copy


@st.composite
def of_tree(draw: Any, value: Any) -> Any:
    """One value of a tree replaced, dropped, doubled, wrapped, renamed or put in another's place."""
    ways = list(places(value))
    way, other = draw(st.sampled_from(ways)), draw(st.sampled_from(HOSTILE))
    how = draw(st.sampled_from(("replace", "replace", "replace", "drop", "twice", "wrap", "rename", "repeat")))

    def change(holder: Any, key: Any, old: Any) -> Any:
        if holder is None:
            return other if how == "replace" else [old]
        if how == "drop":
            del holder[key]
        elif how == "twice" and isinstance(holder, dict):
            return Twice(holder, key, other)
        elif how == "rename" and isinstance(holder, dict):
            holder[str(other)] = holder.pop(key)
        elif how == "repeat" and isinstance(holder, list):
            holder.insert(key, old)
        else:
            holder[key] = [old] if how == "wrap" else other
        return holder

    return with_at(value, way, change)


@st.composite
def of_bytes(draw: Any, data: bytes) -> bytes:
    """Bytes flipped, cut off, taken out, doubled or put in."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(out) - 1)))
        to = min(len(out), at + draw(st.integers(0, 40)))
        how = draw(st.sampled_from(("flip", "flip", "cut", "out", "double", "in", "over")))
        if how == "flip" and out:
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del out[at:]
        elif how == "out":
            del out[at:to]
        elif how == "double":
            out[at:at] = out[at:to]
        else:
            out[at : to if how == "over" else at] = draw(st.sampled_from(TOKENS))
    return bytes(out)


@st.composite
def of_files(draw: Any, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with one of them damaged: as JSON where it is, as lines of JSON, or as bytes."""
    name = draw(st.sampled_from(sorted(files)))
    data = files[name]
    value, lines = parsed(data), data.split(b"\n")
    ways = ["bytes"] + ["tree"] * 3 * (value is not None)
    ways += ["line"] * 3 * (value is None and parsed(lines[0]) is not None)
    how = draw(st.sampled_from(ways))
    if how == "bytes":
        return {**files, name: draw(of_bytes(data))}
    if how == "tree":
        for _ in range(draw(st.integers(1, 2))):
            value = draw(of_tree(value)) if isinstance(value, dict | list) else value
        return {**files, name: written(value).encode()}
    at = draw(st.sampled_from([i for i, line in enumerate(lines) if parsed(line) is not None]))
    lines[at] = written(draw(of_tree(parsed(lines[at])))).encode()
    return {**files, name: b"\n".join(lines)}
