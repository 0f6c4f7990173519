"""What is made of Ray's errors, as Ray raises them: a worker that is gone, work that failed, what Ray cannot do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workbench import ray_workers
from workbench.errors import BadInput, RunError
from workbench.ray_answers import Died, answer_of, reason

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'workbench-interp[ray]'")
lost = ray.exceptions

KILLED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: Server\n\tpid: 16302\n\tip: 192.0.2.2\nThe "
    "actor is dead because its worker process has died. Worker exit detail: Worker exits with an exit code 3."
)
NO_MEMORY = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node was 3.87GB used / 4.0GB limit\n"
    "Object store memory usage: [- objects spillable: 0\n" + "Refer to the documentation. " * 100
)
NO_MODULE = (
    "The actor died because of an error raised in its creation task, \x1b[36mray::Server.__init__()\x1b[39m (pid=16460, "
    'ip=192.0.2.2)\n           ^^^^^^^\n  File "/some/where.py", line 8, in __init__\n    import workbench\n    ^^^^^^^^\n'
    "ModuleNotFoundError: No module named 'workbench'"
)


def raising(error: BaseException):
    def get(ref):
        raise error

    return SimpleNamespace(exceptions=lost, get=get)


@pytest.mark.parametrize(
    "error",
    [
        lost.RayActorError(error_msg=KILLED), lost.ActorDiedError(), lost.OutOfMemoryError(NO_MEMORY),
        lost.NodeDiedError("the node is gone"), lost.WorkerCrashedError(), lost.ObjectLostError("ab", None, "f"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_worker_that_is_gone_is_no_end_of_the_scan(error):
    answer = answer_of(raising(error), "ref", "unit 'a'")
    assert isinstance(answer, Died) and 0 < len(str(answer)) <= 302 and "\n" not in str(answer)


@pytest.mark.parametrize(
    "error",
    [
        lost.ActorUnschedulableError("no node has it"), lost.RuntimeEnvSetupError("pip failed"),
        lost.OutOfDiskError("no room"), lost.LocalRayletDiedError("x"), lost.RaySystemError("no room"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_ray_cannot_do_is_one_line(error):
    with pytest.raises(RunError, match=f"engine=ray: unit 'a': {type(error).__name__}: ") as told:
        answer_of(raising(error), "ref", "unit 'a'")
    assert "\n" not in str(told.value)


def test_what_the_work_raised_is_told_as_if_it_had_been_done_here():
    work = [
        lost.RayTaskError("do", "a traceback", cause, "ray::do", 1, "ip") for cause in (BadInput("no"), KeyError(1))
    ]
    with pytest.raises(BadInput, match="^no$"):
        answer_of(raising(work[0].as_instanceof_cause()), "ref", "unit 'a'")
    with pytest.raises(RunError, match="unit 'a' failed on a Ray worker: KeyError: 1"):
        answer_of(raising(work[1].as_instanceof_cause()), "ref", "unit 'a'")


def test_the_reason_is_what_stands_behind_colours_tables_and_tracebacks():
    assert reason(Exception(NO_MODULE)) == "ModuleNotFoundError: No module named 'workbench'"
    assert (
        reason(Exception(f"{NO_MODULE}\nsecond line")) == "ModuleNotFoundError: No module named 'workbench' second line"
    )
    assert "pid" not in reason(Exception(KILLED)) and reason(Exception(KILLED)).endswith("an exit code 3.")
    assert "3.87GB used / 4.0GB limit" in reason(Exception(NO_MEMORY)) and reason(Exception("a\nb")) == "a b"
    assert reason(Exception("")) == ""


def test_workers_that_are_killed_for_memory_as_they_start_end_the_scan_with_the_reason(monkeypatch):
    pool = ray_workers.Pool(SimpleNamespace(), 1)  # pyright: ignore[reportArgumentType]
    pool._ray, started = raising(lost.OutOfMemoryError(NO_MEMORY)), []
    monkeypatch.setattr(pool, "_start", lambda: started.append(pool._starting.update(ref="actor")))
    pool._start()
    for _ in range(ray_workers.STARTS - 1):
        pool._ready("ref")
    with pytest.raises(RunError, match=r"3 workers died before they were ready \(1 worker\(s\) were killed due to"):
        pool._ready("ref")
    assert len(started) == ray_workers.STARTS
