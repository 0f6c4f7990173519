"""Commands that are killed, stopped, locked out or out of disk go on with the same words to the same files."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import faults
import numpy as np
import pytest
from killed_commands import WORDS, Typed, warm
from struck_runs import Whole

from workbench.locks import FolderLock

MOMENTS = 50
REFUSALS = ("No space left on device", "Read-only file system")
LATER = ("atlas", "scan-visual", "fit-windows")
"""Struck in the slow tests only: they share all that writes with the others."""


@pytest.fixture(scope="module", autouse=True)
def warmed() -> Iterator[None]:
    here = os.getcwd()
    with warm(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)  # for power cuts only
        yield
    os.chdir(here)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) if name in LATER else name for name in WORDS]
)
def whole(request, tmp_path_factory) -> tuple[str, Whole]:
    """A command and what it leaves undisturbed; here it is asked in this process, which the others are forked from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", None)
        patch.setattr("sys.stderr", None)
        found = Typed(request.param, tmp_path_factory.mktemp(request.param)).whole()
    assert len(found.units) >= 2 and len(found.files) > 5
    return request.param, found


def test_a_night_of_mishaps_changes_no_bit(whole, tmp_path):
    """A kill, Ctrl-C, a full disk, a read-only one and another process that holds the folder, one after another."""
    name, found = whole
    work, rng = Typed(name, tmp_path), np.random.default_rng()

    def moment() -> int:
        return int(rng.integers(1, 10 + 2 * len(found.units)))

    assert work.struck(faults.kill(moment())) == -9
    killed = work.unfinished_files()
    assert work.struck(faults.interrupt(moment())) == 130
    assert work.said()[-1].startswith("stopped; what a run folder holds is kept, the same command goes on from there: ")
    assert work.said()[-1].endswith(" ".join(["workbench", *work.words]))
    assert set(work.unfinished_files()) <= set(killed)
    assert work.struck(faults.full(moment())) in (1, 2)
    assert set(work.unfinished_files()) <= set(killed)
    assert work.struck(faults.read_only(moment())) in (1, 2)
    refused = [line for line in work.said() if line.startswith("error: cannot write ")]
    assert [said for line in refused for said in REFUSALS if said in line] == [*REFUSALS]
    held_by_another(work, work.out / found.name)
    work.goes_on(found, apart=True)


def held_by_another(work: Typed, run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(run)
    try:
        assert faults.forked(work.answer) == 1
        assert f"is being written by process {os.getpid()} on host" in work.said()[-1]
    finally:
        lock.release()


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_bit(whole, tmp_path):
    """Half of them at a moment of the clock, half right before a write, some in the middle of one."""
    name, found = whole
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kills = homes = redone = 0
    started = time.perf_counter()
    work = Typed(name, tmp_path / "0")
    begun = time.perf_counter()
    work.goes_on(found, apart=True)
    seconds = time.perf_counter() - begun
    while kills < MOMENTS:
        homes += 1
        work = Typed(name, tmp_path / str(homes))
        code = -9
        while code == -9 and kills < MOMENTS:
            code = killed(work, rng, found.writes, seconds)
            kills += code == -9
        work.goes_on(found, apart=True)
        redone += len(work.begun) - len(found.units)
    assert redone <= MOMENTS
    print(f"{name}: {kills} kills, {homes} runs of {len(found.units)} units, {redone} units done twice", end="; ")
    print(f"{time.perf_counter() - started:.0f} s")


def killed(work: Typed, rng: np.random.Generator, writes: int, seconds: float) -> int:
    if rng.random() < 0.5:
        return work.struck(faults.kill(int(rng.integers(1, max(2, writes // 2)))))

    def work_until_killed() -> int:
        pid = faults.start(work.answer)
        time.sleep(float(rng.random()) * seconds / 2)
        os.killpg(pid, 9)
        return faults.ended(pid)

    return work.session(work_until_killed)
