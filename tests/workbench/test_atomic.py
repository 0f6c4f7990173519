"""Bytes are synced before a name stands for them, names before the next step; what a disk refuses leaves nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import faults
import pytest

from workbench import atomic


def order(folder: Path, work) -> list[tuple[str, str]]:
    """Kind and path of each write, temporary names shortened to what they end with."""
    with faults.Writes(folder).watched() as writes:
        work()
    return [(kind, "partial" if path.endswith(".partial") else path) for kind, path in writes.log]


REPLACED = [("open", "partial"), ("write", "partial"), ("fsync", "partial"), ("replace", "a"), ("fsync", ".")]
APPENDED = [("open", "log"), ("write", "log"), ("fsync", "log")]


def test_a_file_is_synced_before_its_name_and_its_name_before_the_next_step(tmp_path):
    for data in (b"first", b"second"):
        assert order(tmp_path, lambda d=data: atomic.write_bytes(tmp_path / "a", d)) == REPLACED
        assert (tmp_path / "a").read_bytes() == data


def test_a_line_is_synced_and_the_name_of_a_new_log_too(tmp_path):
    log = tmp_path / "log"
    assert order(tmp_path, lambda: atomic.append_line(log, "é")) == [*APPENDED, ("fsync", ".")]
    assert order(tmp_path, lambda: atomic.append_line(log, "b")) == APPENDED
    assert log.read_text() == "é\nb\n"
    assert order(tmp_path, lambda: atomic.drop_torn_line(log)) == []
    log.write_text("é\nb\nhalf of a li")
    assert order(tmp_path, lambda: atomic.drop_torn_line(log)) == [
        ("open", "log"),
        ("truncate", "log"),
        ("fsync", "log"),
    ]
    assert log.read_text() == "é\nb\n"


def test_folders_are_made_from_above_each_synced_in_its_own(tmp_path):
    made = order(tmp_path, lambda: atomic.make_folders(tmp_path / "a" / "b" / "c"))
    assert made == [
        ("mkdir", "a"),
        ("fsync", "."),
        ("mkdir", "a/b"),
        ("fsync", "a"),
        ("mkdir", "a/b/c"),
        ("fsync", "a/b"),
    ]
    assert order(tmp_path, lambda: atomic.make_folders(tmp_path / "a" / "b")) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        atomic.make_folders(tmp_path / "file" / "below")


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_is_whole_and_never_replaces_one(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))
    assert atomic.write_new(tmp_path / "a", b"mine") and not atomic.write_new(tmp_path / "a", b"yours")
    assert (tmp_path / "a").read_bytes() == b"mine" and os.listdir(tmp_path) == ["a"]


def test_writers_with_one_process_id_in_one_folder_do_not_share_a_partial_file(tmp_path, monkeypatch):
    """As containers on two machines have: the other writes between the bytes of ours and their name."""
    true, others = os.link, []

    def link(a, b):
        if not others:
            others.append(atomic._beside(tmp_path / "lock"))
            others[0].write_bytes(b"theirs")
        true(a, b)

    monkeypatch.setattr(os, "link", link)
    assert atomic.write_new(tmp_path / "lock", b"mine")
    assert (tmp_path / "lock").read_bytes() == b"mine" and others[0].read_bytes() == b"theirs"
    atomic.remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["lock"]


@pytest.mark.parametrize("links", [True, False])
def test_whatever_is_refused_leaves_what_was_there(tmp_path, monkeypatch, links):
    """At every write of every kind: the old bytes or the new, and no other file."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))
    works = {
        "old": lambda path: atomic.write_bytes(path, b"new!"),
        "new": lambda path: atomic.write_new(path, b"new!"),
        "log": lambda path: atomic.append_line(path, "new!"),
    }
    for name, work in works.items():
        path, before = tmp_path / name, set()
        for n in range(1, 12):
            path.write_bytes(b"old\n") if name == "old" or (name == "log" and n > 6) else path.unlink(missing_ok=True)
            was = path.read_bytes() if path.exists() else None
            with faults.Writes(tmp_path, faults.full(n)).watched() as writes:
                try:
                    work(path)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
            now = path.read_bytes() if path.exists() else None
            assert now in (was, (was or b"") + b"new!\n", b"new!") or (name, now) == ("log", b""), (name, n, now)
            assert not [p for p in os.listdir(tmp_path) if p.endswith(".partial")]
            before |= {now}
            path.unlink(missing_ok=True)
        assert writes.log and len(before) > 1, "some were refused, some were not"


def test_folders_that_cannot_be_synced_are_told_apart_from_disks_that_fail(tmp_path, monkeypatch):
    def failing(code):
        return lambda handle: (_ for _ in ()).throw(OSError(code, os.strerror(code)))

    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    atomic.sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        atomic.sync_folder(tmp_path)
