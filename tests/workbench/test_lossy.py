"""Words that cannot be written are lost, and never the work: full disks, readers and terminals that are gone."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import sys

import pytest

from workbench.lossy import Lossy
from workbench.progress import counting, progress


@contextlib.contextmanager
def closing(stream):
    """Closed at the end, which fails, too."""
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()


def full():
    return closing(open("/dev/full", "w", buffering=1))


def unread():
    """A pipe nobody reads from."""
    reader, writer = os.pipe()
    os.close(reader)
    return closing(os.fdopen(writer, "w", buffering=1))


def hung_up():
    """A terminal that is gone: a live bar is drawn there."""
    terminal, device = pty.openpty()
    stream = os.fdopen(device, "w", buffering=1)
    assert stream.isatty()
    stream.isatty = lambda: True
    os.close(terminal)
    return closing(stream)


@pytest.mark.parametrize("nowhere", [full, unread, hung_up])
def test_progress_goes_nowhere_and_work_goes_on(monkeypatch, nowhere):
    with nowhere() as stream:
        with pytest.raises(OSError):
            print("x", file=stream, flush=True)
        monkeypatch.setattr(sys, "stderr", stream)
        done = []
        with progress() as stages:
            report = stages.stage("needles", 10)
            for i in counting("texts", 10):
                report(i + 1, 10)
                stages.note("a note")
                done.append(i)
        assert done == list(range(10)) and sys.stderr is stream


def test_a_process_without_stderr_works_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with progress() as stages:
        stages.stage("needles")(1, 1)
        stages.note("a note")
    assert capsys.readouterr().out == ""


def test_negative_control_a_stream_that_can_be_written_loses_nothing_and_keeps_its_nature():
    stream = io.StringIO()
    lossy = Lossy(stream)
    assert lossy.write("abc") == 3 and print("d", file=lossy, flush=True) is None
    lossy.writelines(["e", "f"])
    assert stream.getvalue() == "abcd\nef" and lossy.isatty() is False and lossy.getvalue() == stream.getvalue()
    with pytest.raises(ValueError):
        stream.close()
        lossy.write("closed by ourselves: a mistake, not the world's")
    with pytest.raises(AttributeError):
        _ = lossy.no_such_thing
