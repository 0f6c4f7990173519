"""Faults at any of the writes below a folder: a kill, a disk that refuses, Ctrl-C; and processes to be struck by them.

A write is whatever changes files: a name made, moved or removed, bytes (half of them are down when the fault strikes), a
truncation, a sync. A process killed right before write n leaves what one killed right after write n - 1 leaves.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

Fault = Callable[[int, str, str], None]
"""Called before write n (from 1) with its kind and its path."""
_OF_NAMES = {"mkdir": 0, "unlink": 0, "remove": 0, "rmdir": 0, "truncate": 0, "replace": 1, "rename": 1, "link": 1}


class Writes:
    """Counts the writes below a folder while `watched`; `log` holds the kind and the path of each."""

    def __init__(self, folder: Path, before: Fault = lambda n, kind, path: None, after: Fault | None = None) -> None:
        self.folder, self.log, self._before, self._after = os.path.realpath(folder), [], before, after
        self._paths: dict[int, str] = {}
        self._busy = False

    @contextmanager
    def watched(self) -> Iterator[Writes]:
        """Inside, writes are seen, whoever does them."""
        opened = self._opened(builtins.open)
        with pytest.MonkeyPatch.context() as patch:
            for name, at in _OF_NAMES.items():
                patch.setattr(os, name, self._named(name, at, getattr(os, name)))
            patch.setattr(os, "fsync", self._synced(os.fsync))
            patch.setattr(os, "open", self._handled(os.open))
            patch.setattr(builtins, "open", opened)
            patch.setattr(io, "open", opened)
            yield self

    def write(self, kind: str, path: Any, work: Callable[[], Any]) -> Any:
        """Does a write, with what happens before and after it."""
        path = os.path.realpath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""
        if self._busy or not path.startswith(self.folder):
            return work()
        self.log.append((kind, os.path.relpath(path, self.folder)))
        n = len(self.log)
        self._before(n, kind, path)
        self._busy = True  # what a write is made of is no other write
        try:
            done = work()
        finally:
            self._busy = False
        if self._after:
            self._after(n, kind, path)
        return done

    def _named(self, kind: str, at: int, true: Any) -> Any:
        return lambda *args, **more: self.write(kind, args[at], lambda: true(*args, **more))

    def _synced(self, true: Any) -> Any:
        return lambda handle: self.write("fsync", self._paths.get(handle), lambda: true(handle))

    def _handled(self, true: Any) -> Any:
        def opened(path: Any, flags: int, *args: Any, **more: Any) -> int:
            def work() -> int:
                return true(path, flags, *args, **more)

            handle = self.write("open", path, work) if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) else work()
            self._paths[handle] = os.fsdecode(path)
            return handle

        return opened

    def _opened(self, true: Any) -> Any:
        def opened(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            if not set(mode) & set("wax+") or isinstance(file, int):
                return true(file, mode, *args, **more)
            stream = self.write("open", file, lambda: true(file, mode, *args, **more))
            self._paths[stream.fileno()] = os.fsdecode(file)
            return _Halved(stream, file, self)

        return opened


class _Halved:
    """A stream whose writes come in two halves."""

    def __init__(self, stream: Any, path: Any, writes: Writes) -> None:
        self._stream, self._path, self._writes = stream, path, writes

    def write(self, data: Any) -> int:
        half = self._stream.write(data[: len(data) // 2])
        self._stream.flush()
        return half + self._writes.write("write", self._path, lambda: self._stream.write(data[half:]))

    def truncate(self, size: int | None = None) -> int:
        return self._writes.write("truncate", self._path, lambda: self._stream.truncate(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> _Halved:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stream.close()


def kill(n: int) -> Fault:
    """SIGKILL for the whole process group before write n; the process leads one (see `start`)."""
    return _at(n, lambda: os.killpg(0, signal.SIGKILL))


def interrupt(n: int) -> Fault:
    """Ctrl-C before write n."""
    return _at(n, lambda: os.kill(os.getpid(), signal.SIGINT))


def full(n: int) -> Fault:
    """From write n on the disk takes nothing new; what is there can be removed."""
    return _refused(n, errno.ENOSPC, ("unlink", "remove", "rmdir", "truncate"))


def read_only(n: int) -> Fault:
    """From write n on nothing below the folder can be changed."""
    return _refused(n, errno.EROFS, ())


def _at(n: int, strike: Callable[[], None]) -> Fault:
    return lambda now, kind, path: strike() if now == n else None


def _refused(n: int, code: int, free: tuple[str, ...]) -> Fault:
    def fault(now: int, kind: str, path: str) -> None:
        if now >= n and kind not in free:
            raise OSError(code, os.strerror(code), path)

    return fault


def start(work: Callable[[], int]) -> int:
    """The id of a forked process, leader of its own group, that does the work and ends with what it gives."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        with suppress(OSError):  # it may have done so itself, or have ended
            os.setpgid(pid, pid)
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        code = work()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """How a process ended: its exit code, or less than 0 where a signal killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forked(work: Callable[[], int]) -> int:
    """`start`, and how it ended."""
    return ended(start(work))
