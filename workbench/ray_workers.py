"""Workers on a Ray cluster: one process each with the model loaded, replaced when it dies. The cluster must be running."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Self

from workbench.company import refuse_company
from workbench.errors import RunError, Unsupported
from workbench.merging import in_words
from workbench.placing import placement
from workbench.ray_answers import Died, answer_of
from workbench.serving import Server, facts_of
from workbench.terminating import left_as_it_was

if TYPE_CHECKING:
    from workbench.jobs import Job
    from workbench.spreading import Gave

PATIENCE = 60.0
"""Seconds without an answer after which it is said that the cluster is waited for."""
STARTS = 3
"""Workers in a row that may die before they are ready."""
NO_CLUSTER = (
    "engine=ray: no Ray cluster is running here; start one with `ray start --head --disable-usage-stats`, or name one in "
    "RAY_ADDRESS (see docs/clusters.md)"
)


class Pool:
    """At most `most` workers that do units of a job. Inside a `with` they live; behind it they are gone."""

    def __init__(self, job: Job[Any], most: int) -> None:
        self.job, self.workers = job, most
        self.pids: dict[Any, int] = {}  # of workers that are ready
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, str]] = {}
        self._lost_starts = 0

    def __enter__(self) -> Self:
        """Connect, start as many workers as there is room for. Raises RunError where no cluster is running, Unsupported
        for a model that somebody edits or watches here: workers load the plain one.
        """
        refuse_company(self.job.model, "engine=ray")
        self._connected = connect()
        import ray

        self._ray, room = ray, ray.cluster_resources()
        self._needs = needs_of(self.job.config.device, self.job.model.device.type)
        places = int(min(room.get(name[4:-1].upper(), 0) / n for name, n in self._needs.items()))
        if places < 1:
            raise RunError(f"engine=ray: the cluster has no place for a worker (needs {self._needs}, has {dict(room)})")
        self.workers = min(self.workers, places)
        for _ in range(self.workers):
            self._start()
        return self

    def __exit__(self, *_: Any) -> None:
        """End the workers; leave a cluster that was joined here."""
        for actor in {*self._starting.values(), *self._idle, *(actor for actor, _ in self._busy.values())}:
            self._ray.kill(actor)
        if self._connected:
            self._ray.shutdown()

    @property
    def free(self) -> bool:
        """Whether a worker waits for work."""
        return bool(self._idle)

    def give(self, unit: str) -> None:
        """Let a free worker do a unit."""
        actor = self._idle.pop(0)
        self._busy[actor.do.remote(unit)] = (actor, unit)

    def take(self) -> tuple[str, Gave | Died] | None:
        """A unit's answer, or that its worker died of it; None when a worker has become ready. Waits.

        Raises WorkbenchError for what the work itself raised, RunError where Ray cannot do it.
        """
        ready: list[Any] = []
        while not ready:
            ready, _ = self._ray.wait([*self._busy, *self._starting], timeout=PATIENCE)
            if not ready and not self._busy:
                self.job.stages.note("engine=ray: waiting for a place on the cluster")
        if ready[0] in self._starting:
            self._ready(ready[0])
            return None
        actor, unit = self._busy.pop(ready[0])
        answer = answer_of(self._ray, ready[0], f"unit {unit!r}")
        if isinstance(answer, Died):
            self.job.stages.note(f"note: a Ray worker ended at unit {unit!r}, which is done again: {answer}")
            self.pids.pop(actor, None)
            self._start()
        else:
            self._idle.append(actor)
        return unit, answer

    def _start(self) -> None:
        kind = self._ray.remote(**self._needs, max_restarts=0, max_concurrency=1)(Server)
        config, device = self.job.config, self.job.model.device.type
        if placement(config.device).spread:
            device = config.device
        words = {**in_words(config), "out": "none", "device": device}
        if (memory := getattr(config, "memory", None)) is not None:
            words["memory"] = memory
        words["trust_remote_code"] = str(config.trust_remote_code).lower()
        actor = kind.remote(self.job.command, [f"{key}={value}" for key, value in words.items()], os.getcwd())
        self._starting[actor.begin.remote()] = actor

    def _ready(self, ref: Any) -> None:
        """Take a worker in. Raises RunError for one that computes something else, or when too many died."""
        actor = self._starting.pop(ref)
        told = answer_of(self._ray, ref, "a worker")
        if isinstance(told, Died):
            self._lost_starts += 1
            if self._lost_starts == STARTS:
                raise RunError(f"engine=ray: {STARTS} workers died before they were ready ({told})")
            self._start()
            return
        facts, own = told["facts"], facts_of(self.job)
        unlike = [f"{key}: {facts.get(key)} there, {own[key]} here" for key in own if facts.get(key) != own[key]]
        if unlike:
            raise RunError(
                f"engine=ray: a worker computes something else ({'; '.join(unlike)}): give all machines the same"
            )
        self._lost_starts = 0
        self.pids[actor] = told["pid"]
        if self.job.run is not None:
            self.job.run.made_elsewhere([told["circumstances"]])
        self._idle.append(actor)


def needs_of(device: str | None, kind: str) -> dict[str, int]:
    """What Ray keeps for one worker. device: as it was asked for; kind: where the model lies here."""
    return {"num_cpus": 1, **({"num_gpus": placement(device).n_devices or 1} if kind == "cuda" else {})}


def connect() -> bool:
    """Join the cluster that RAY_ADDRESS names or that runs here; whether it was joined now.

    Raises Unsupported without Ray, RunError without a cluster: none is started.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    address = os.environ.get("RAY_ADDRESS") or "auto"
    if address == "local":  # Ray's word for: start one
        raise RunError(NO_CLUSTER)
    try:
        import ray
    except ModuleNotFoundError:
        raise Unsupported('engine=ray needs Ray: pip install "workbench-interp[ray]"') from None
    if ray.is_initialized():
        return False
    try:
        with left_as_it_was():  # Ray's handler would exit at once: no word on how to go on, a record that says "failed"
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # no cluster, another version of Ray, another token
        where = "" if isinstance(error, ConnectionError) else f" ({' '.join(str(error).split())[:160]})"
        raise RunError(NO_CLUSTER + where) from None
    return True
