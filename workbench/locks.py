"""One writer for a folder: a lock file that names its holder, taken over only from the dead.

Between machines (shared disks) the file alone decides; on one machine a dead holder is recognised by its
process id and, where /proc tells it, by when that process started (ids are used again).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workbench import atomic
from workbench.errors import RunError
from workbench.posix import lock
from workbench.untrusted import LARGEST_CONFIG, parsed, text_of

_NEWBORN = 10.0  # seconds that an empty lock file, of disks without hard links, may take to be filled


class FolderLock:
    """Holds `folder/lock` from construction to `release()`. Raises RunError if another holds it, OSError."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        pid = os.getpid()
        self._mine = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": pid,
            "space": _pid_space(),
            "born": _process(pid)[1],
            "since": time.time(),
            "key": os.urandom(8).hex(),  # two locks of one process differ, whatever the clock says
        }
        with _alone_in(folder):
            try:
                if not self._create():
                    self._take_over(folder)
            except BaseException:
                with suppress(OSError):
                    self.release()
                raise

    def release(self) -> None:
        """Give the folder back; a lock that is no longer ours is left alone. Raises OSError."""
        if _read(self.path) == self._mine:
            atomic.remove(self.path)

    def _create(self) -> bool:
        return atomic.write_new(self.path, json.dumps(self._mine).encode())

    def _age(self) -> float:
        """Seconds since the lock was taken, also by a clock that went back; endless where it has just been let go."""
        try:
            return abs(time.time() - self.path.stat().st_mtime)
        except FileNotFoundError:
            return float("inf")

    def _take_over(self, folder: Path) -> None:
        holder = _read(self.path)
        if holder and not _dead(holder):
            raise RunError(
                f"{folder} is being written by process {holder.get('pid')} on host {holder.get('host')}: "
                f"wait for it or stop it; if it no longer exists, delete {self.path}"
            )
        if not holder and self._age() < _NEWBORN:
            raise RunError(f"{folder} has just been taken by another process: wait for it, or delete {self.path}")
        atomic.remove(self.path)
        if not self._create():
            raise RunError(f"{folder} was taken by another process at this moment: wait for it")


def _read(path: Path) -> dict[str, Any]:
    """The holder that the file names; empty if it names none."""
    try:
        holder = parsed(text_of(path, LARGEST_CONFIG))
    except (FileNotFoundError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _dead(holder: dict[str, Any]) -> bool:
    """True only if the holder surely no longer runs; a process that cannot be seen from here counts as alive."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0:
        return False
    if holder.get("machine") not in (None, _machine()) or holder.get("space") != _pid_space():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    state, born = _process(pid)
    return state in ("Z", "X") or bool(born and holder.get("born") and born != holder["born"])


def _process(pid: int) -> tuple[str, str | None]:
    """State letter and start (boot id and clock ticks) of a process; empty and None where /proc is silent."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The name in field 2 may hold spaces and brackets; what follows its last bracket does not.
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None
    return after_name[0], f"{boot}/{after_name[19]}"


def _machine() -> str | None:
    """What tells machines of one host name (localhost) apart; None where it is not told, as in locks of older versions."""
    try:
        return Path("/etc/machine-id").read_text().strip() or None
    except (OSError, ValueError):
        return None


def _pid_space() -> str | None:
    """Containers may share a host name and yet number their processes apart."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Take-overs on one host happen one at a time: else two could each remove the other's new lock."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)
