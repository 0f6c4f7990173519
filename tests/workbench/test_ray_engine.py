"""How units are handed out and taken back, with workers that are objects here: order, lost workers, who stops early."""

from __future__ import annotations

import os
import signal
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from workbench_analyses.retrieval_heads import ScanHeads

import workbench as wb
from workbench import ray_engine, ray_workers
from workbench.errors import RunError, Unsupported
from workbench.ray_answers import Died
from workbench.spread_options import Engine
from workbench.spreading import Unit
from workbench.terminating import Terminated, terminable


class Workers:
    """Answers in a random order; the units of `kills` end their worker so many times."""

    def __init__(self, workers: int, kills: dict[str, int]) -> None:
        self.workers, self.kills, self.given = workers, dict(kills), []
        self._starting, self._busy, self.rng = workers, [], np.random.default_rng()
        self.most, self.open = 0, True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open = False

    @property
    def free(self) -> bool:
        return len(self._busy) + self._starting < self.workers

    def give(self, unit: str) -> None:
        assert self.free
        self.given.append(unit)
        self._busy.append(unit)
        self.most = max(self.most, len(self._busy))

    def take(self):
        assert self._starting or self._busy, "nobody is asked: this would wait forever"
        if self._starting:
            self._starting -= 1
            return None
        unit = self._busy.pop(int(self.rng.integers(len(self._busy))))
        if self.kills.get(unit, 0):
            self.kills[unit] -= 1
            self._starting += 1
            return unit, Died("gone")
        return unit, ({"x": np.array([float(unit)])}, {"unit": unit})


def spread(monkeypatch, workers: Workers, n: int = 12):
    monkeypatch.setattr(ray_engine, "Pool", lambda job, most: workers)
    job = SimpleNamespace(run=None, engine=Engine(True, workers.workers))
    return ray_engine.spread_over(job, [Unit(str(i), lambda: pytest.fail("done by the driver")) for i in range(n)])


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_answers_come_in_order_each_once(monkeypatch, n):
    workers = Workers(n, {})
    assert [meta["unit"] for _, meta in spread(monkeypatch, workers)] == [str(i) for i in range(12)]
    assert sorted(workers.given, key=int) == [str(i) for i in range(12)] and not workers.open
    assert workers.most == min(n, 12) or n == 40


def test_what_a_lost_worker_had_is_done_again_and_only_that(monkeypatch):
    workers = Workers(3, {"0": 1, "5": 2, "11": 1})
    assert [float(arrays["x"][0]) for arrays, _ in spread(monkeypatch, workers)] == list(range(12))
    assert len(workers.given) == 12 + 4 and not workers.open


def test_a_unit_that_ends_every_worker_is_named(monkeypatch):
    workers = Workers(2, {"4": 99})
    with pytest.raises(RunError, match=r"unit '4' ended 3 Ray workers \(gone\)"):
        list(spread(monkeypatch, workers))
    assert workers.given.count("4") == 3 and not workers.open


def test_who_stops_asking_stops_the_work(monkeypatch):
    workers = Workers(2, {})
    answers = spread(monkeypatch, workers, n=100)
    for _ in range(3):
        next(answers)
    answers.close()
    assert not workers.open and len(workers.given) <= 3 + 2 * 2 + 2


def test_without_a_cluster_or_without_ray_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(RunError, match="ray start --head"):
        ray_workers.connect()
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Unsupported, match=r"workbench-interp\[ray\]"):
        ray_workers.connect()


@pytest.mark.parametrize("starts", [True, False])
def test_a_driver_that_is_asked_to_stop_stops_as_without_ray(monkeypatch, starts):
    """Ray takes SIGTERM for itself as it connects, also where it then fails, and never gives it back."""

    def init(**options):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        if not starts:
            raise ConnectionError("none")

    fake = ModuleType("ray")
    monkeypatch.setattr(fake, "init", init, raising=False)
    monkeypatch.setattr(fake, "is_initialized", lambda: False, raising=False)
    monkeypatch.setitem(sys.modules, "ray", fake)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with terminable():
            if starts:
                assert ray_workers.connect()
            else:
                with pytest.raises(RunError, match="ray start --head"):
                    ray_workers.connect()
            with pytest.raises(Terminated) as stopped:
                os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.value.exit_code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_model_that_is_edited_here_is_refused_as_workers_load_the_plain_one():
    model = wb.load("planted-copy")
    pool = ray_workers.Pool(SimpleNamespace(model=model), 1)  # pyright: ignore[reportArgumentType]
    with wb.intervene(model, wb.mask([(0, 0)])), pytest.raises(Unsupported, match="engine=ray runs the plain model"):
        pool.__enter__()


def test_a_worker_has_the_budget_and_the_gpus_that_were_asked_for(monkeypatch):
    words = []

    class Actor:
        def remote(self, command, options, folder):
            words.extend(options)
            return SimpleNamespace(begin=SimpleNamespace(remote=lambda: "ref"))

    asked = ScanHeads(device="gpus:2", memory="2GB", trust_remote_code=True, engine="ray", rounds=3)
    place = SimpleNamespace(type="cuda")
    job = SimpleNamespace(config=asked, command="scan-heads", model=SimpleNamespace(device=place))
    pool = ray_workers.Pool(job, 1)  # pyright: ignore[reportArgumentType]
    pool._needs = ray_workers.needs_of(asked.device, "cuda")
    pool._ray = SimpleNamespace(remote=lambda **needs: lambda kind: Actor())  # pyright: ignore
    pool._start()
    assert set(words) == {"rounds=3", "out=none", "device=gpus:2", "memory=2GB", "trust_remote_code=true"}
    assert pool._needs == {"num_cpus": 1, "num_gpus": 2}
    assert ray_workers.needs_of("cuda:1", "cuda")["num_gpus"] == 1 and "num_gpus" not in ray_workers.needs_of(
        None, "cpu"
    )


def test_the_run_keeps_under_which_circumstances_a_worker_computes(monkeypatch):
    told, kept = {"facts": {"torch": "1"}, "circumstances": {"conditions": {"threads": 1}}, "pid": 7}, []
    monkeypatch.setattr(ray_workers, "facts_of", lambda job: {"torch": "1"})
    job = SimpleNamespace(run=SimpleNamespace(made_elsewhere=kept.extend))
    pool = ray_workers.Pool(job, 1)  # pyright: ignore[reportArgumentType]
    pool._starting["ref"] = "actor"
    monkeypatch.setattr(ray_workers, "answer_of", lambda ray, ref, what: told)
    pool._ray = None  # pyright: ignore[reportAttributeAccessIssue]
    pool._ready("ref")
    assert kept == [told["circumstances"]] and pool.pids == {"actor": 7} and pool.free
