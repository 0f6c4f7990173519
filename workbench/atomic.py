"""Files that are either there in full or not at all, whenever the process or the machine stops.

POSIX only (see `workbench.posix`): a rename replaces its target in one step and a folder can be synced. The order is
always: the bytes of a file, its name, so that no name stands for bytes that a power cut can take back.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from workbench.errors import BadInput
from workbench.posix import sync

_SUFFIX = ".partial"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_SYNC = (errno.EINVAL, errno.EBADF)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: write beside it, sync, rename, sync the folder. Raises OSError."""
    partial = _beside(path)
    try:
        _write(partial, data)
        os.replace(partial, path)
    except BaseException:
        _tidy(partial)
        raise
    sync_folder(path.parent)


def write_new(path: Path, data: bytes) -> bool:
    """Write a file that must not be there yet; False, and nothing done, where it is. Raises OSError."""
    partial = _beside(path)
    try:
        _write(partial, data)
        os.link(partial, path)
    except (FileExistsError, FileNotFoundError):  # not found: who took the folder meanwhile has tidied it
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _exclusive(path, data)
    finally:
        _tidy(partial)
    return True


def append_line(path: Path, line: str) -> None:
    """Add one line to a log and sync it; the line must hold no newline. Raises OSError, and then adds nothing."""
    new = not path.exists()
    with open(path, "ab", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        try:
            _pour(stream, line.encode() + b"\n")
            sync(stream.fileno())
        except OSError:
            with suppress(OSError):  # else the next line would hang on to a torn one
                stream.truncate(end)
            raise
    if new:
        sync_folder(path.parent)


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
        sync(stream.fileno())
    return True


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, each name synced before the next. Raises OSError."""
    missing = []
    for place in (folder, *folder.parents):
        if place.is_dir():
            break
        missing.append(place)
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        with suppress(PermissionError):  # a folder may be open for writing and closed for reading
            sync_folder(place.parent)


def remove(path: Path) -> None:
    """Remove a file if it is there, also when Ctrl-C comes at this moment. Raises OSError."""
    try:
        path.unlink(missing_ok=True)
    except KeyboardInterrupt:
        path.unlink(missing_ok=True)
        raise


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left in a folder; call it only where nobody else writes (see FolderLock)."""
    for leftover in folder.glob(f".*{_SUFFIX}"):
        remove(leftover)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut, where its file system can be told to."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        sync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def sync_files(folder: Path) -> None:
    """Make the files that others wrote into a folder survive a power cut. Raises OSError."""
    for file in sorted(folder.iterdir()):
        if file.is_file():
            with open(file, "rb") as stream:
                sync(stream.fileno())
    sync_folder(folder)


def check_writable(folder: str | Path) -> None:
    """Raises BadInput where a folder cannot be made or written; makes nothing."""
    there = next(p for p in (Path(folder).absolute(), *Path(folder).absolute().parents) if p.exists())
    if not there.is_dir():
        raise BadInput(f"out={folder}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"out={folder}: {there} cannot be written; name another folder")


def _beside(path: Path) -> Path:
    """A name that no other writer takes: two containers may have one process id, and one folder."""
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}{_SUFFIX}")


def _write(path: Path, data: bytes, mode: str = "wb") -> None:
    with open(path, mode, buffering=0, opener=_no_link) as stream:
        _pour(stream, data)
        sync(stream.fileno())


def _no_link(path: str, flags: int) -> int:
    """A link that somebody laid in the way is not written through."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _pour(stream: IO[bytes], data: bytes) -> None:
    """All of the data: a disk that is nearly full takes a part and refuses only the next."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _exclusive(path: Path, data: bytes) -> bool:
    """`write_new` where a file has one name only: it is there before it is filled."""
    try:
        _write(path, data, "xb")
    except FileExistsError:
        return False
    except BaseException:
        _tidy(path)
        raise
    return True


def _tidy(partial: Path) -> None:
    with suppress(OSError):  # a disk that refuses has already said so
        remove(partial)
