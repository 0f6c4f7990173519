"""What run folders need of the system and POSIX alone has: locks on folders, and syncs that reach the drive."""

from __future__ import annotations

import os
from contextlib import suppress

from workbench.errors import Unsupported

try:
    import fcntl
except ModuleNotFoundError:
    raise Unsupported(
        "this system has no POSIX file locks: the workbench runs on Linux and macOS, on Windows inside WSL (wsl --install)"
    ) from None

_FULL = getattr(fcntl, "F_FULLFSYNC", None)
"""What macOS calls a sync: its fsync leaves bytes in the drive's own memory, which a power cut empties."""


def sync(handle: int) -> None:
    """Make what was written to an open file survive a power cut. Raises OSError."""
    if _FULL is not None:
        with suppress(OSError):  # disks that cannot, such as those of a network, get what they can
            fcntl.fcntl(handle, _FULL)
            return
    os.fsync(handle)


def lock(handle: int) -> None:
    """Wait until no other process of this host holds an open file or folder, and hold it until it is closed."""
    fcntl.flock(handle, fcntl.LOCK_EX)
