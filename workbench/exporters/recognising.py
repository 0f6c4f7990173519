"""Which format a file or folder is in."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from pathlib import Path

from workbench import untrusted
from workbench.errors import BadInput
from workbench.exporters import discover, named
from workbench.exporters.provenance import Shape, written_here
from workbench.heads import HeadScores
from workbench.scores_io import read_published

Reader = Callable[[Path, Shape], HeadScores]


def recognise(path: Path, format: str | None) -> tuple[Path, Reader]:
    """The file and the function that reads it: as told, by the file's name, by what the JSON in it looks like.

    Raises BadInput for an unknown format, and for a folder that holds none or several.
    """
    formats = discover() if format is None else {format: named(format)}
    markers = {exporter.marker: exporter.read for exporter in formats.values()}
    if path.is_dir():
        found = [marker for marker in markers if (path / marker).is_file()]
        if not found and (ours := written_here(path)) is not None and ours[1] in formats:
            return ours[0], formats[ours[1]].read
        if not found:
            raise BadInput(f"{path} holds no scores: looked for {', '.join(sorted(markers))}")
        if len(found) > 1:
            raise BadInput(f"{path} holds scores in several formats: name one of {', '.join(sorted(found))} in it")
        return path / found[0], markers[found[0]]
    if format is not None:
        return path, formats[format].read
    if path.name in markers:
        return path, markers[path.name]
    for exporter in formats.values():
        if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in exporter.also):
            return path, exporter.read
    if path.suffix == ".json":
        value = untrusted.read_json(path, "a score file", untrusted.LARGEST)
        for exporter in formats.values():
            if exporter.claims is not None and exporter.claims(value):
                return path, exporter.read
    return path, lambda file, _: read_published(file)
