"""Where an exported file comes from: `provenance.json` beside it, with a digest of every file that it is about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.heads import ModelIdentity
from workbench.jsonable import dumps
from workbench.schema import schema_of, stamp
from workbench.score_checks import check_size
from workbench.untrusted import LARGEST, read_bytes, read_json

PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class Shape:
    """Layers and heads of a model, as far as known: for formats that list heads and leave the rest out."""

    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None

    def grid(self, path: Path, level: str) -> tuple[int, int]:
        """Layers and heads at a level, "kv" or "query". Raises BadInput where they are not known."""
        heads, name = (self.kv_heads, "kv_heads") if level == "kv" else (self.heads, "heads")
        if self.layers is None or heads is None:
            raise ShapeUnknown(
                f"{path} lists heads and does not say how many there are: give model=, or layers= and {name}="
            )
        check_size(path, self.layers, heads)
        return self.layers, heads

    def filled(self, other: Shape) -> Shape:
        """What is missing here, from another."""
        return Shape(self.layers or other.layers, self.heads or other.heads, self.kv_heads or other.kv_heads)


class ShapeUnknown(BadInput):
    """A list of heads whose model has nobody knows how many."""


def with_digests(about: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """The text of provenance.json."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return (dumps({**stamp(), **about, "files": digests}, indent=1) + "\n").encode()


def beside(path: Path) -> dict[str, Any]:
    """The provenance of a file, {} without one of ours.

    Raises BadInput where the file has changed since, and for layouts of later versions.
    """
    record = _record(path.parent) or {}
    digests = record.get("files")
    if not isinstance(digests, dict) or path.name not in digests:
        return {}
    if digests[path.name] != hashlib.sha256(read_bytes(path, LARGEST)).hexdigest():
        raise BadInput(f"{path} has changed since {PROVENANCE} was written beside it: delete one of the two")
    schema_of(record, path.parent / PROVENANCE)
    return record


def written_here(folder: Path) -> tuple[Path, str] | None:
    """The first file that a folder's provenance.json is about and its format; None without both."""
    record = _record(folder)
    if record is None or not isinstance(record.get("files"), dict):
        return None
    file = folder / Path(next(iter(record["files"]), "")).name
    return (file, str(record.get("format"))) if file.is_file() else None


def identity(record: Mapping[str, Any]) -> ModelIdentity | None:
    """The model that a provenance names."""
    model = record.get("model")
    if not isinstance(model, dict) or not all(isinstance(x, str) for x in model.values()):
        return None
    return ModelIdentity(**model) if set(model) == {"name", "config_hash", "weights"} else None


def shape(record: Mapping[str, Any]) -> Shape:
    """The shape that a provenance names."""
    held = record.get("shape")
    if not isinstance(held, dict):
        return Shape()

    def number(name: str) -> int | None:
        return held[name] if type(held.get(name)) is int and 0 < held[name] < 1 << 20 else None

    return Shape(number("layers"), number("query_heads"), number("kv_heads"))


def check_origin(folder: Path, files: Mapping[str, bytes], side_car: str, format: str) -> None:
    """Raises BadInput where a file of another origin would be replaced: a model's own config.json, say.

    Files are ours where the side-car stands beside them; a provenance.json is ours if it names the format.
    """
    differing = [name for name, data in files.items() if (folder / name).exists() and not _equal(folder / name, data)]
    place = folder / side_car
    ours = place.is_file()
    if side_car == PROVENANCE:
        ours = (_record(folder) or {}).get("format") == format
    if differing and not ours:
        raise BadInput(f"{folder / differing[0]} exists and is of another origin: name another folder with out=")


def _record(folder: Path) -> dict[str, Any] | None:
    """The object in provenance.json; None without one: others use this name, too, for what they like."""
    place = folder / PROVENANCE
    try:
        record = read_json(place) if place.is_file() else None
    except BadInput:
        return None
    return record if isinstance(record, dict) else None


def _equal(place: Path, data: bytes) -> bool:
    return place.is_file() and place.stat().st_size == len(data) and place.read_bytes() == data
