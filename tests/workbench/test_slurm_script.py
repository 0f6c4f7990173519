"""The script of docs/clusters.md, run by bash: without Slurm, with one that is a stub, as a task of an array."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "clusters" / "slurm_scan.sh"
STUBS = {
    "workbench": 'printf "workbench %s\\n" "$*" >> "$CALLS"',
    "sbatch": 'printf "sbatch %s\\n" "$*" >> "$CALLS"; echo "77;cluster"',
}


def run(folder: Path, *words: str, stubs: tuple[str, ...] = ("workbench",), **variables: str) -> list[str]:
    """The calls that the script makes, a line each."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name in stubs:
        (tools / name).write_text(f"#!/bin/bash\n{STUBS[name]}\n")
        (tools / name).chmod(0o755)
    given = {"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(folder / "calls"), **variables}
    done = subprocess.run(["bash", str(SCRIPT), *words], env=given, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "calls").read_text().splitlines()


def test_without_slurm_the_shards_run_one_after_another_and_are_merged(tmp_path):
    calls = run(tmp_path, "scan-heads", "model=a b", SHARDS="3", OUT="there")
    assert calls == [
        *[f"workbench scan-heads model=a b out=there shard={i}/3" for i in range(3)], "workbench merge there",
    ]  # fmt: skip


def test_a_task_of_an_array_is_one_shard(tmp_path):
    calls = run(tmp_path, "scan-heads", SHARDS="5", OUT="o", SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_TASK_COUNT="5")
    assert calls == ["workbench scan-heads out=o shard=2/5"]


def test_with_slurm_an_array_is_submitted_and_a_merge_that_waits_for_it(tmp_path):
    array, merge = run(tmp_path, "scan-heads", "model=m", stubs=("workbench", "sbatch"), SHARDS="4", OUT="o p")
    assert array == f"sbatch --parsable --array=0-3 {SCRIPT} scan-heads model=m"
    words = f"--kill-on-invalid-dep=yes --job-name=workbench-merge --output=%x-%j.log {SCRIPT} merge o p"
    assert merge == f"sbatch --dependency=afterok:77 {words}", "the script's own #SBATCH lines give it a GPU and time"


def test_the_job_that_merges_does_that_alone(tmp_path):
    assert run(tmp_path, "merge", "o p", stubs=("workbench", "sbatch"), SHARDS="4") == ["workbench merge o p"]


def test_each_scan_has_a_folder_of_its_own_and_finds_it_again(tmp_path):
    asked = [("model=a",), ("model=b",), ("model=a", "x=1"), ("model=a",)]
    folders = []
    for i, words in enumerate(asked):
        (tmp_path / str(i)).mkdir()
        *_, merge = run(tmp_path / str(i), "scan-heads", *words, stubs=("workbench", "sbatch"))
        (shard,) = run(tmp_path / str(i), "scan-heads", *words, SLURM_ARRAY_TASK_ID="0")[2:]
        folders.append(merge.split()[-1])
        assert f"out={folders[-1]} " in shard and folders[-1].startswith("runs/scan-heads-")
    assert folders[0] == folders[3] and len(set(folders)) == 3


def test_some_tasks_again_keep_the_number_of_shards(tmp_path):
    array, _ = run(tmp_path, "scan-heads", stubs=("workbench", "sbatch"), SHARDS="8", TASKS="3,5")
    assert "--array=3,5 " in array


@pytest.mark.slow
def test_the_loop_gives_the_scores_of_one_run(tmp_path):
    words = ["scan-heads", "model=planted-copy", "lengths=64,96", "rounds=2", "until=none", "proof=none"]
    given = {**os.environ, "OMP_NUM_THREADS": "1", "SHARDS": "2"}
    script = ["bash", str(SCRIPT), *words]
    subprocess.run(script, env={**given, "OUT": "two"}, cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["workbench", *words, "out=one"], env=given, cwd=tmp_path, check=True, capture_output=True)
    (one,) = (tmp_path / "one").iterdir()
    two = tmp_path / "two" / one.name
    assert (one / "scores.json").read_bytes() == (two / "scores.json").read_bytes()
    assert json.loads((two / "run.json").read_text())["state"] == "done"
