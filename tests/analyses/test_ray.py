"""A scan spread over a local Ray cluster of two workers, one of them killed in the middle: the scores of one process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from workbench import ray_workers
from workbench.cli import main
from workbench.runs import Run

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'workbench-interp[ray]'")
pytestmark = pytest.mark.slow
WORDS = ["scan-heads", "model=planted-copy", "lengths=96,128", "rounds=8", "until=none", "proof=none"]


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this process; where RAY_ADDRESS names one, each command joins that."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}  # a token would be left at home
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers
    if "RAY_ADDRESS" not in os.environ:
        options = {"include_dashboard": False, "log_to_driver": False, "object_store_memory": 100 * 2**20}
        ray.init("local", num_cpus=2, **options)  # never one that was left running here
    yield
    ray.shutdown()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def single(cluster, tmp_path_factory):
    out = tmp_path_factory.mktemp("single")
    assert main([*WORDS, f"out={out}"]) == 0
    return files(out)


def files(out: Path) -> dict[str, bytes]:
    (run,) = out.iterdir()
    assert json.loads((run / "run.json").read_text())["state"] == "done"
    apart = {"run.json", "report.html", "progress.jsonl"}
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name not in apart}


def test_two_workers_give_the_scores_of_one_process(single, tmp_path):
    assert main([*WORDS, f"out={tmp_path}", "engine=ray"]) == 0
    assert files(tmp_path) == single and len([f for f in single if f.startswith("shards/")]) == 16


def test_workers_killed_in_the_middle_cost_their_units_and_no_score(single, tmp_path, monkeypatch, capsys):
    given, killed, saved, true_give, true_save = [], [], [], ray_workers.Pool.give, Run.save

    def give(pool, unit):
        pid = pool.pids[pool._idle[0]]
        true_give(pool, unit)
        given.append(unit)
        if len(given) in (4, 9):
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    def save(run, unit, *gave):
        saved.append(unit)
        true_save(run, unit, *gave)

    monkeypatch.setattr(ray_workers.Pool, "give", give)
    monkeypatch.setattr(Run, "save", save)
    assert main([*WORDS, f"out={tmp_path}", "engine=ray:2"]) == 0
    assert files(tmp_path) == single and len(set(killed)) == 2
    assert len(saved) == len(set(saved)) == 16 and len(given) == 18, "what two workers had is done again, no more"
    assert capsys.readouterr().err.count("a Ray worker ended at unit") == 2
    (record,) = (json.loads(file.read_text()) for file in tmp_path.glob("*/run.json"))
    assert {x["conditions"]["threads"] for x in [*record["also_made_with"], record]} == {1}


def test_a_finished_scan_needs_no_cluster_and_one_begun_goes_on(single, tmp_path, monkeypatch):
    true, left = Run.save, [5]

    def stopped(run, *args):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        true(run, *args)

    monkeypatch.setattr(Run, "save", stopped)
    assert main([*WORDS, f"out={tmp_path}", "engine=ray"]) == 130
    monkeypatch.setattr(Run, "save", true)
    assert main([*WORDS, f"out={tmp_path}"]) == 0 and files(tmp_path) == single
    monkeypatch.setattr(ray_workers, "connect", lambda: pytest.fail("asked for a cluster"))
    assert main([*WORDS, f"out={tmp_path}", "engine=ray"]) == 0 and files(tmp_path) == single


def test_a_worker_that_would_compute_something_else_is_refused(cluster, tmp_path, monkeypatch, capsys):
    true = ray_workers.facts_of
    monkeypatch.setattr(ray_workers, "facts_of", lambda job: {**true(job), "torch": "1.0"})
    assert main([*WORDS, f"out={tmp_path}", "engine=ray"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "a worker computes something else" in line and f"torch: {torch.__version__} there, 1.0 here" in line
