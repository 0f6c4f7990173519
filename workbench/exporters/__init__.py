"""Formats that head scores can be written in and read from: one file each, found by scanning this package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, did_you_mean
from workbench.heads import HeadScores


@dataclass(frozen=True)
class Exporter:
    """One format.

    marker: the file name by which a folder in this format is recognised.
    write: (scores, folder, **options) -> the files written; its keyword-only arguments are the options.
    read: the marker file -> scores. Both raise BadInput in one line.
    """

    name: str
    help: str
    marker: str
    write: Callable[..., list[Path]]
    read: Callable[[Path], HeadScores]

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that `write` takes."""
        parameters = inspect.signature(self.write).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def discover() -> dict[str, Exporter]:
    """Formats by name, sorted. Raises RuntimeError if two modules claim one name."""
    found: dict[str, Exporter] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        exporter = getattr(importlib.import_module(module.name), "EXPORTER", None)
        if not isinstance(exporter, Exporter):
            continue
        if exporter.name in found:
            raise RuntimeError(f"{module.name} defines {exporter.name!r}, which is taken")
        found[exporter.name] = exporter
    return dict(sorted(found.items()))


def export(scores: HeadScores, format: str, out: str | Path, **options: Any) -> list[Path]:
    """Write scores into the folder `out` in a format that `discover()` lists; returns the files written.

    Raises BadInput for an unknown format or option, and for scores that the format cannot hold.
    """
    formats = discover()
    if format not in formats:
        raise BadInput(f"no format {format!r}: use {', '.join(formats)}.{did_you_mean(format, formats)}")
    exporter = formats[format]
    for name in options:
        if name not in exporter.options:
            takes = f"takes {', '.join(exporter.options)}" if exporter.options else "takes no options"
            raise BadInput(f"format={format} has no {name}=: it {takes}.{did_you_mean(name, exporter.options)}")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: out= names the folder to write in")
    return exporter.write(scores, folder, **options)
