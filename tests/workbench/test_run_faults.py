"""A run that is struck at any of its writes, by anything, ends at the same files with at most one unit done twice."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faults
import numpy as np
import pytest
from power_cuts import PowerCuts
from struck_runs import Struck, Whole

from workbench import atomic, run_record
from workbench.errors import BadInput, RunError
from workbench.runs import Run

UNITS = ("a", "b", "c")
REFUSED, STOPPED = 1, 130


class Work(Struck):
    """A run of three units."""

    def answer(self) -> int:
        total = 0.0
        try:
            with Run.open(self.out, "find", "llama", {"seed": 3}) as run:
                for unit in UNITS:
                    arrays, meta = run.remember(unit, lambda u=unit: self._unit(u))
                    total += float(arrays["x"].sum()) + meta["mean"]
                run.write_json("scores.json", total)
                run.finish({"total": total}, {"seconds": run.seconds()})
        except KeyboardInterrupt:
            return STOPPED
        except (RunError, BadInput) as error:
            return REFUSED if "\n" not in str(error) else 71
        return 0

    def _unit(self, unit: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        with self.log.open("a") as log:
            log.write(f"{unit}\n")
        x = np.random.default_rng(ord(unit)).normal(size=2_000)
        return {"x": x}, {"mean": float(x.mean())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    whole = Work(tmp_path_factory.mktemp("whole")).whole()
    assert whole.units == [*UNITS] and whole.writes > 40
    return whole


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A sync takes long and matters to power cuts only: these are played, not had. Ctrl-C is heard in background jobs too."""
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield
    signal.signal(signal.SIGINT, heard)


def at_every_write(
    home: Path, writes: int, fault: Callable[[int], faults.Fault], apart: bool = True, step: int = 1
) -> list[tuple[Work, int]]:
    out = []
    for n in range(1, writes + 1, step):
        work = Work(home / str(n))
        out.append((work, work.struck(fault(n), apart)))
    return out


def test_kill_nine_at_every_write(whole, tmp_path):
    for work, code in at_every_write(tmp_path, whole.writes, faults.kill):
        assert code == -9
        work.goes_on(whole)


@pytest.mark.slow
def test_kill_nine_at_every_write_and_at_every_write_of_what_goes_on(whole, tmp_path):
    for n in range(1, whole.writes + 1, 3):
        for again in range(1, whole.writes + 1, 2):
            work = Work(tmp_path / f"{n}-{again}")
            codes = work.struck(faults.kill(n)), work.struck(faults.kill(again))
            assert codes[0] == -9 and codes[1] in (-9, 0)
            work.goes_on(whole)


def test_ctrl_c_at_every_write_gives_the_folder_back(whole, tmp_path):
    for work, code in at_every_write(tmp_path, whole.writes, faults.interrupt, apart=False):
        assert code == STOPPED
        assert not work.unfinished_files()
        work.goes_on(whole)


def test_a_full_disk_at_every_write_is_one_line_and_keeps_what_is_finished(whole, tmp_path):
    ends = set()
    for work, code in at_every_write(tmp_path, whole.writes, faults.full, apart=False):
        ends.add(code)
        assert not work.unfinished_files()
        work.goes_on(whole)
    assert ends == {REFUSED, 0}  # only what gives the folder back needs no room


def test_a_disk_that_turns_read_only_at_every_write_is_one_line(whole, tmp_path):
    for work, code in at_every_write(tmp_path, whole.writes, faults.read_only, step=3):
        assert code == REFUSED
        work.goes_on(whole)


SMALL_DISK = """
import subprocess, sys
import numpy as np
from workbench.errors import WorkbenchError
from workbench.runs import Run

def answer(seed):
    begun = []
    def unit():
        begun.append(1)
        return {"x": np.arange(2_000.0)}, {}
    try:
        with Run.open(sys.argv[1], "find", "llama", {"seed": seed}) as run:
            for i in range(6):
                run.remember(f"{i}", unit)
            run.finish({}, {})
        print(len(begun), "done")
    except WorkbenchError as error:
        print(len(begun), error)

answer(3)
subprocess.run(["mount", "-o", "remount,size=1m", sys.argv[1]], check=True)
answer(3)
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
answer(3)
answer(4)
"""


def test_a_disk_that_is_really_full_and_one_that_is_really_read_only(tmp_path):
    """A tmpfs of 80 KiB for 96 KiB of shards; then larger; then closed for writing."""
    mounted = f"mount -t tmpfs -o size=80k tmpfs {tmp_path} && exec {sys.executable} -c '{SMALL_DISK}' {tmp_path}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted]
    if shutil.which("unshare") is None or subprocess.run([*command[:4], "true"], capture_output=True).returncode:
        pytest.skip("no mounts of one's own here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    full, larger, closed, new = done.stdout.splitlines()
    assert "No space left on device" in full and int(full[0]) >= 3
    assert larger == f"{7 - int(full[0])} done", "what was finished is kept"
    assert closed.startswith("0 cannot write in ") and new.startswith("0 cannot write in ")
    assert "Read-only file system" in closed and "Read-only file system" in new


def test_a_file_that_the_system_itself_cuts_short(whole, tmp_path):
    work = Work(tmp_path)

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY))
        return work.answer()

    assert faults.forked(limited) == REFUSED and work.begun == ["a"]
    assert work.record()["state"] == "failed" and "File too large" in work.record()["error"]
    assert not list((work.run / "shards").iterdir())
    work.goes_on(whole)


def test_a_power_cut_at_every_write(whole, tmp_path):
    for after in cut(tmp_path, whole.writes):
        after.goes_on(whole)


def cut(home: Path, writes: int) -> list[Work]:
    """What a power cut leaves before each write of an undisturbed run."""
    work = Work(home)
    work.out.mkdir()
    cuts = PowerCuts(work.out, home / "cuts", (work.log,))

    def followed() -> int:
        with cuts.writes.watched():
            return work.answer()

    assert faults.forked(followed) == 0
    return [Work(home / "cuts" / str(n)) for n in range(1, writes + 1)]


def test_files_that_are_not_replaced_or_not_synced_would_be_found_out(whole, tmp_path, monkeypatch):
    """The negative controls of kills and of power cuts."""
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_bytes", lambda path, data: path.write_bytes(data))
        torn = [work for work, _ in at_every_write(tmp_path / "torn", 15, faults.kill) if not _recovers(work, whole)]
    assert torn
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: None)
    lost = cut(tmp_path / "lost", whole.writes // 2)[-1]
    assert lost.begun and not _recovers(lost, whole)


def _recovers(work: Work, whole: Whole) -> bool:
    try:
        work.goes_on(whole)
    except (AssertionError, ValueError):
        return False
    return True


def test_a_clock_that_goes_back_between_units_and_between_runs(whole, tmp_path, monkeypatch):
    class Back(datetime):
        hours = 0

        @classmethod
        def now(cls, tz=None):
            cls.hours += 5
            return datetime(2026, 1, 1, tzinfo=UTC) - timedelta(hours=cls.hours)

    monkeypatch.setattr(run_record, "datetime", Back)
    monkeypatch.setattr("time.time", lambda: Back.now().timestamp())
    work = Work(tmp_path)
    assert work.struck(faults.kill(35)) == -9
    seconds = [json.loads(line)["seconds"] for line in (work.run / "progress.jsonl").read_text().splitlines()[:1]]
    Back.hours += 100
    (work.run / "lock").write_bytes(b"")  # of a disk without links, from the future
    work.goes_on(whole)
    record = work.record()
    assert record["ended"] < record["started"] and len(record["resumed"]) == 1
    assert seconds and min(seconds) >= 0 and record["cost"]["seconds"] >= sum(seconds)
