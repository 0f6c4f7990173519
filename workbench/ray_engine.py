"""Units of work on a Ray cluster that is already running: workers compute, the driver writes; a lost worker's unit is redone.

Each worker runs the same command in a process of its own up to its units (see `workbench.serving`), so nothing but the
command's words, names of units and their arrays crosses the wire. Ray pickles those between its own processes: use a
cluster that you trust. No cluster is started from here, and nothing is reported to anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError
from workbench.ray_answers import Died
from workbench.ray_workers import Pool

if TYPE_CHECKING:
    from workbench.jobs import Job
    from workbench.spreading import Gave, Unit

AHEAD = 2
"""Units begun beyond the one that is waited for, in units of workers: who stops early has lost little."""
TRIES = 3
"""Workers that a unit may cost."""


def spread_over(job: Job[Any], units: list[Unit]) -> Iterator[Gave]:
    """What each unit gave, in order. Raises RunError where there is no cluster, or a unit fails or kills its workers."""
    kept = _Kept(job)
    todo = [unit.name for unit in units if unit.name not in kept]
    if not todo:
        yield from (kept.of(unit.name) for unit in units)
        return
    with Pool(job, min(job.engine.workers or len(todo), len(todo))) as pool:
        flow = _Flow(pool, kept, todo)
        for unit in units:
            while unit.name not in kept:
                flow.step(unit.name)
            yield kept.of(unit.name)


class _Kept:
    """What units gave: in the run folder, or held where none is written."""

    def __init__(self, job: Job[Any]) -> None:
        self._run = job.run
        self._held: dict[str, Gave] = {}

    def __contains__(self, unit: str) -> bool:
        return unit in (self._held if self._run is None else self._run.done())

    def add(self, unit: str, gave: Gave) -> None:
        """Written by this process only."""
        if self._run is None:
            self._held[unit] = gave
        else:
            self._run.save(unit, *gave)

    def of(self, unit: str) -> Gave:
        return self._held[unit] if self._run is None else self._run.load(unit)


class _Flow:
    """Hands out units in order, not too far ahead, and again where a worker died of one."""

    def __init__(self, pool: Pool, kept: _Kept, todo: list[str]) -> None:
        self._pool, self._kept, self._todo = pool, kept, todo
        self._place = {name: i for i, name in enumerate(todo)}
        self._tries = dict.fromkeys(todo, 0)

    def step(self, wanted: str) -> None:
        """Give free workers something to do, then take one answer."""
        while self._todo and self._pool.free and self._near(self._todo[0], wanted):
            self._pool.give(self._todo.pop(0))
        taken = self._pool.take()
        if taken is None:
            return
        unit, answer = taken
        if not isinstance(answer, Died):
            self._kept.add(unit, answer)
            return
        self._tries[unit] += 1
        if self._tries[unit] == TRIES:
            raise RunError(f"unit {unit!r} ended {TRIES} Ray workers ({answer}): is there memory enough for it?")
        self._todo.insert(0, unit)

    def _near(self, unit: str, wanted: str) -> bool:
        return self._place[unit] <= self._place[wanted] + AHEAD * self._pool.workers
