"""What belongs to a folder lies in it: names and links that lead out of one that came from elsewhere are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from workbench.errors import BadInput

LONGEST = 255
"""Bytes of a file's name."""


def inner(folder: Path, name: str) -> Path:
    """The place of a file below a folder. Raises BadInput for a name, or a link on the way, that leads out of it."""
    parts = PurePosixPath(name).parts
    sane = parts and "\0" not in name and not {"..", "/", "//"} & set(parts)
    if not sane or max(len(os.fsencode(part)) for part in parts) > LONGEST:
        raise BadInput(f"{name[:80]!r} is no name of a file in {folder}")
    if not leads_inside(folder, (folder / name).parent):
        raise BadInput(
            f"{(folder / name).parent} is a link that leads out of {folder}: remove it, or name another folder"
        )
    return folder / name


def check_links(folder: Path) -> None:
    """Raises BadInput where a folder, or one in it, holds a link that leads out, or what is neither file nor folder.

    A run folder that was made elsewhere may hold a link where this run would write, or a pipe where it would read.
    """
    for entry in _entries(folder):
        if entry.is_symlink() and not leads_inside(folder, Path(entry.path)):
            raise BadInput(f"{entry.path} is a link that leads out of {folder}: put what it stands for in its place")
        if not entry.is_symlink() and not (entry.is_file() or entry.is_dir()):
            raise BadInput(f"{entry.path} is neither a file nor a folder: remove it")


def leads_inside(folder: Path, place: Path) -> bool:
    """Whether a place lies in a folder once all links are followed."""
    try:
        return place.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links that lead round in a circle
        return False


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Of the folder and of its folders, one level deep: run folders are no deeper."""
    try:
        with os.scandir(folder) as found:
            outer = list(found)
    except OSError:
        return
    yield from outer
    for entry in outer:
        if entry.is_dir(follow_symlinks=False):
            with os.scandir(entry.path) as found:
                yield from found
