"""Syncs that reach the drive where the system can be told to, and one line where it has no POSIX locks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from workbench import atomic, posix

FULL = 51
"""Of macOS."""


@pytest.fixture
def asked(monkeypatch):
    """What the system was asked, in order."""
    log = []
    monkeypatch.setattr(os, "fsync", lambda handle: log.append("fsync"))
    monkeypatch.setattr(posix.fcntl, "fcntl", lambda handle, what: log.append(what))
    return log


def test_a_plain_sync_where_there_is_no_other(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(posix, "_FULL", None)
    atomic.write_bytes(tmp_path / "a", b"x")
    assert asked == ["fsync", "fsync"], "bytes, then their name"


def test_macos_is_asked_to_empty_the_memory_of_the_drive(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(posix, "_FULL", FULL)
    for work in (
        lambda: atomic.write_bytes(tmp_path / "a", b"x"),
        lambda: atomic.append_line(tmp_path / "log", "x"),
        lambda: atomic.sync_files(tmp_path),
    ):
        asked.clear()
        work()
        assert len(asked) >= 2 and set(asked) == {FULL}


def test_a_disk_that_cannot_is_asked_for_a_plain_sync(asked, monkeypatch, tmp_path):
    def cannot(handle, what):
        raise OSError(errno.ENOTSUP, "not here")

    monkeypatch.setattr(posix, "_FULL", FULL)
    monkeypatch.setattr(posix.fcntl, "fcntl", cannot)
    atomic.write_bytes(tmp_path / "a", b"x")
    assert asked == ["fsync", "fsync"]


def test_a_system_without_posix_locks_is_told_in_one_line():
    """As Windows would be, were it not for WSL."""
    code = "import sys; sys.modules['fcntl'] = None; from workbench.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["scan-heads", "model=planted-copy", "out=nowhere"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2 and "inside WSL" in line and "Linux and macOS" in line and "doctor" not in line
