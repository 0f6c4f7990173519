"""A scan that is killed, stopped, locked out or out of disk goes on with the same command to the same scores."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from workbench_analyses.retrieval import units

from workbench import atomic
from workbench.cli import main

ROUNDS = 6
WORDS = ["scan-heads", "model=planted-copy", "lengths=96,", f"rounds={ROUNDS}", "until=none", "proof=none"]


class Scan:
    """The command in forked processes: torch is imported once. What is computed is logged to `computed`, unit by unit."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.words = folder, [*WORDS, f"out={folder / 'runs'}"]
        self.said, self.computed = folder / "said", folder / "computed"
        self.computed.touch()

    def start(self) -> int:
        pid = os.fork()
        if pid:
            return pid
        torch.set_num_threads(1)  # threads of the parent are not there
        sys.stdout = sys.stderr = self.said.open("w", buffering=1)
        os._exit(main(self.words))

    def finish(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.start(), 0)[1])

    def wait_for(self, n: int, pid: int) -> bool:
        """Until n units are finished; False where the process has ended before."""
        while len(self.progress()) < n:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return False
            time.sleep(0.001)
        return True

    def progress(self) -> list[str]:
        logs = list(self.folder.glob("runs/*/progress.jsonl"))
        return logs[0].read_text().splitlines() if logs else []

    @property
    def run(self) -> Path:
        (run,) = (self.folder / "runs").iterdir()
        return run

    def record(self) -> dict:
        return json.loads((self.run / "run.json").read_text())

    def scores(self) -> bytes:
        return (self.run / "scores.json").read_bytes()


@pytest.fixture
def scan(tmp_path, monkeypatch):
    scan, true = Scan(tmp_path), units._score

    def logged(model, block, stops):
        with scan.computed.open("a") as log:
            log.write(f"{block.name}\n")
        if (tmp_path / "hold").exists():
            while not (tmp_path / "go").exists():
                time.sleep(0.005)
        return true(model, block, stops)

    monkeypatch.setattr(units, "_score", logged)
    return scan


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    whole = Scan(tmp_path_factory.mktemp("whole"))
    assert whole.finish() == 0
    held = json.loads(whole.scores())
    assert len(held) == 24 and max(map(max, filter(None, held.values()))) > 0.5
    return whole.scores()


def killed_at_random(scan: Scan, scores: bytes, kills: int) -> None:
    rng = np.random.default_rng()
    done = 0
    for _ in range(kills):
        pid = scan.start()
        on = scan.wait_for(min(len(scan.progress()) + int(rng.integers(0, 2)), ROUNDS), pid)
        time.sleep(float(rng.random()) * 0.03)
        os.kill(pid, signal.SIGKILL)
        done += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        if not on:
            break
    assert done >= 2
    assert scan.finish() == 0 and scan.scores() == scores and scan.record()["state"] == "done"
    computed = scan.computed.read_text().split()
    assert len(set(computed)) == ROUNDS and len(computed) <= ROUNDS + done, "a kill costs one shard at most"
    names = {p.name for p in scan.run.rglob("*")}
    assert not [name for name in names if name.endswith(".partial")] and "lock" not in names
    assert len(list((scan.run / "shards").iterdir())) == ROUNDS


def test_kill_nine_at_random_moments_changes_no_bit(scan, scores):
    killed_at_random(scan, scores, 4)


@pytest.mark.slow
@pytest.mark.parametrize("i", range(12))
def test_kill_nine_at_many_moments_changes_no_bit(scan, scores, i):
    killed_at_random(scan, scores, 4)


def test_ctrl_c_exits_130_says_how_to_go_on_and_loses_nothing(scan, scores):
    pid = scan.start()
    assert scan.wait_for(2, pid)
    os.kill(pid, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    last = scan.said.read_text().splitlines()[-1]
    assert last.startswith("stopped; what a run folder holds is kept") and last.endswith(
        " ".join(["workbench", *scan.words])
    )
    assert scan.record()["state"] == "interrupted" and not (scan.run / "lock").exists()
    kept = len(scan.progress())
    assert scan.finish() == 0 and scan.scores() == scores
    assert 2 <= kept < ROUNDS and len(scan.computed.read_text().split()) <= ROUNDS + 1


def test_a_second_process_is_told_who_holds_the_folder(scan, scores, capsys):
    (scan.folder / "hold").touch()
    pid = scan.start()
    while not scan.computed.read_text():
        time.sleep(0.005)
    assert main(scan.words) == 1
    assert f"is being written by process {pid} on host" in capsys.readouterr().err.splitlines()[-1]
    (scan.folder / "go").touch()
    assert os.waitpid(pid, 0)[1] == 0 and scan.scores() == scores


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
def test_a_disk_that_refuses_ends_in_one_line_and_keeps_what_is_finished(scan, scores, capsys, monkeypatch, code, said):
    true, written = atomic.write_bytes, []

    def full(path: Path, data: bytes) -> None:
        written.append(path.name)
        if len([name for name in written if "96" in name]) > 3:
            raise OSError(code, os.strerror(code))
        true(path, data)

    monkeypatch.setattr(atomic, "write_bytes", full)
    assert main(scan.words) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1 and said in errors[0] and "run the same command again" in errors[0]
    monkeypatch.setattr(atomic, "write_bytes", true)
    assert len(scan.progress()) == 3 and main(scan.words) == 0 and scan.scores() == scores
    assert len(scan.computed.read_text().split()) == ROUNDS + 1
