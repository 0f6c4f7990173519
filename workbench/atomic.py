"""Files that are either there in full or not at all, whenever the process or the machine stops.

POSIX only (Linux, macOS, WSL): a rename replaces its target in one step and a folder can be synced.
"""

from __future__ import annotations

import os
from pathlib import Path

from workbench.errors import BadInput

_SUFFIX = ".partial"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: write beside it, sync, rename, sync the folder. Raises OSError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        with open(partial, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add one line to a log and sync it; the line must hold no newline. Raises OSError."""
    with open(path, "ab") as stream:
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def drop_torn_line(path: Path) -> bool:
    """Cut off what follows the last newline: a line whose writer was killed. True if there was one."""
    if not path.exists():
        return False
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole == len(data):
        return False
    with open(path, "r+b") as stream:
        stream.truncate(whole)
        os.fsync(stream.fileno())
    return True


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left in a folder; call it only while holding the folder's lock."""
    for leftover in folder.glob(f".*{_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(folder: str | Path) -> None:
    """Raises BadInput where a folder cannot be made or written; makes nothing."""
    there = next(p for p in (Path(folder).absolute(), *Path(folder).absolute().parents) if p.exists())
    if not there.is_dir():
        raise BadInput(f"out={folder}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"out={folder}: {there} cannot be written; name another folder")
