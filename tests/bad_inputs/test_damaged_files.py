"""Every reader of files, on sound files that are then damaged: a value that holds, or one clear line; never anything else.

A few examples here, many in the slow test; both are the same every time.
"""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from mutations import of_files
from readers import READERS, Reader

from workbench.errors import WorkbenchError

FEW, MANY = 12, 600
SECONDS = 10
MEMORY = 3 * 2**30
"""Bytes that a reader may ask for beside what this process holds."""
LONGEST = 2_000


class TooSlow(BaseException):
    """No reader catches it."""


@contextmanager
def bounded() -> Iterator[None]:
    """Inside, work that takes long or asks for gigabytes fails."""

    def stop(*_: object) -> None:
        raise TooSlow

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def laid_out(home: Path, files: dict[str, bytes]) -> Path:
    """The files in a fresh folder below home."""
    shutil.rmtree(home / "given", ignore_errors=True)
    for name, data in files.items():
        (home / "given" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "given" / name).write_bytes(data)
    return home / "given"


def survive(reader: Reader, home: Path, examples: int) -> list[bool]:
    """Whether each damaged example was read (True) or refused in a line (False)."""
    read = []

    @settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(files=of_files(reader.files()))
    def each(files: dict[str, bytes]) -> None:
        folder = laid_out(home, files)
        with bounded():
            try:
                value = reader.read(folder)
            except WorkbenchError as error:
                assert str(error).strip(), "an empty line helps nobody"
                read.append(False)
            else:
                reader.check(value)
                read.append(True)
        assert [p.name for p in home.iterdir()] == ["given"], "something was written outside"

    each()
    return read


@pytest.mark.parametrize("name", READERS)
def test_the_files_are_sound_before(name, tmp_path):
    """The negative control: a reader that refuses everything would survive, too."""
    reader = READERS[name]
    reader.check(reader.read(laid_out(tmp_path, dict(reader.files()))))


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_in_a_line(name, tmp_path):
    survive(READERS[name], tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files(name, tmp_path):
    read = survive(READERS[name], tmp_path, MANY)
    assert not all(read), "no damage was ever noticed"


def test_negative_control_a_reader_that_lets_errors_through_is_caught(tmp_path):
    careless = Reader(
        lambda f: (f / "a.json").write_text('{"a": [1, 2]}'),
        lambda f: __import__("json").loads((f / "a.json").read_text()),
    )
    with pytest.raises(ValueError):
        survive(careless, tmp_path, 50)
