"""What COCO says is in its images, and captions of a model: both read from the user's files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench import untrusted
from workbench.errors import BadInput
from workbench.tasks.chair import Caption
from workbench.tasks.object_words import Words, object_words

_NUMBER = re.compile(r"(?<!\d)(\d++)(?:\.\w+)?$")
FORMAT = "one JSON object a line, or a JSON list of objects, with image_id and caption (text)"


def read_captions(path: str | Path) -> list[Caption]:
    """Captions of a JSONL file, or of a JSON list as COCO's results are. Raises BadInput, with the line."""
    text = _text(path, "captions")
    rows: Iterable[tuple[str, Any]]
    if text.lstrip().startswith("["):
        rows = ((f"{path}: entry {i}", row) for i, row in enumerate(_parsed(text, str(path)), 1))
    else:
        lines = [(f"{path}:{i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        rows = ((place, _parsed(line, place)) for place, line in lines)
    out = [_caption(place, row) for place, row in rows]
    if not out:
        raise BadInput(f"{path}: no caption in it; {FORMAT}")
    return out


def image_key(image: Any) -> str:
    """COCO's number of an image, also out of a file name: 42, "42", "COCO_val2014_000000000042.jpg"; else the text."""
    found = _NUMBER.search(str(image))
    return (found[1].lstrip("0") or "0") if found else str(image)


def read_coco(path: str | Path, words: Words | None = None) -> dict[str, frozenset[str]]:
    """Objects of each image: of an instances file; or of a folder's instances*.json, with its captions*.json if there.

    CHAIR counts an object that one of the five human captions names as there: without captions, more is invented.
    Raises BadInput for files of another format.
    """
    words = words or object_words()
    files = _files(Path(path))
    out: dict[str, set[str]] = {}
    for file in files["instances"]:
        _add_instances(out, file, words)
    for file in files["captions"]:
        data = _data(file, "captions")
        for row in data["annotations"]:
            if not isinstance(row, dict) or not isinstance(row.get("caption"), str) or "image_id" not in row:
                raise BadInput(f"{file}: annotations without image_id and caption: no captions file of COCO's")
            if image_key(row["image_id"]) in out:
                out[image_key(row["image_id"])] |= {m.object for m in words.mentions(row["caption"])}
    return {image: frozenset(objects) for image, objects in out.items()}


def _files(path: Path) -> dict[str, list[Path]]:
    if path.is_file():
        return {"instances": [path], "captions": []}
    if not path.is_dir():
        raise BadInput(f"coco={path}: no such file or folder; give instances_*.json, or the folder that holds it")
    homes = [home for home in (path, path / "annotations") if any(home.glob("instances*.json"))]
    if not homes:
        raise BadInput(f"coco={path}: no instances*.json in it; COCO's annotations hold instances_val2014.json")
    return {kind: sorted(homes[0].glob(f"{kind}*.json")) for kind in ("instances", "captions")}


def _add_instances(out: dict[str, set[str]], file: Path, words: Words) -> None:
    data = _data(file, "instances")
    try:
        names = {c["id"]: " ".join(c["name"].lower().split()) for c in data["categories"]}
        for row in data.get("images", []):
            out.setdefault(image_key(row["id"]), set())
        unknown = sorted(set(names.values()) - words.objects.keys())
        if unknown:
            raise BadInput(f"{file}: category {unknown[0]!r} is no word of the table of objects; give synonyms=FILE")
        for row in data["annotations"]:
            out.setdefault(image_key(row["image_id"]), set()).add(words.objects[names[row["category_id"]]])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{file}: no instances file of COCO's ({type(error).__name__}: {error})") from None


def _data(file: Path, kind: str) -> dict[str, Any]:
    """A COCO JSON with what its kind needs."""
    data = _parsed(_text(file, "coco"), str(file))
    needed = ("annotations", "categories") if kind == "instances" else ("annotations",)
    missing = [key for key in needed if not isinstance(data, dict) or not isinstance(data.get(key), list)]
    if missing:
        raise BadInput(f"{file}: no {kind} file of COCO's: it holds no list of {' and '.join(missing)}")
    return data


def _caption(place: str, row: Any) -> Caption:
    given = isinstance(row, dict) and isinstance(row.get("caption"), str)
    if not given or isinstance(row.get("image_id"), bool) or not isinstance(row.get("image_id"), str | int):
        raise BadInput(f"{place}: no image_id (number or text) with a caption (text); {FORMAT}")
    return Caption(image_key(row["image_id"]), row["caption"])


def _text(path: str | Path, option: str) -> str:
    try:
        return untrusted.text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{option}={path}: cannot be read ({error})") from None


def _parsed(text: str, place: str) -> Any:
    try:
        return untrusted.parsed(text)
    except ValueError as error:
        raise BadInput(f"{place}: not JSON ({error})") from None
