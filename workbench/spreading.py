"""Independent units of work, done here, in part, or by others; whoever asks for them gets what they gave in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import merging, serving
from workbench.errors import BadInput, RunError
from workbench.parts import PLAN, Part, deal, whole_name
from workbench.runs import Run, Work
from workbench.schema import stamp
from workbench.untrusted import read_json
from workbench.versions import DECIDING, versions

if TYPE_CHECKING:
    from rich.console import Group

    from workbench.jobs import Job

Gave = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
"""Arrays and JSON-able facts of one unit."""


@dataclass(frozen=True)
class Unit:
    """One unit: what it is called, its work, and what it costs beside others (tokens, say)."""

    name: str
    work: Work
    cost: float = 1.0


class PartDone(Exception):
    """Ends a command that was asked for a part only; not an error."""

    def __init__(self, result: PartResult) -> None:
        super().__init__(str(result.part))
        self.result = result


@dataclass(frozen=True)
class PartResult:
    """What one shard did. units: how many are its own; now: those of them that this session did."""

    command: str
    model_label: str
    part: Part
    units: int
    now: int
    seconds: float
    path: str

    @property
    def merge(self) -> str:
        """The command that puts the parts together."""
        import shlex

        return shlex.join(["workbench", "merge", whole_name(self.path) or self.path])

    def summary(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "command": self.command, "model": self.model_label, "shard": str(self.part), "units": self.units,
            "done_now": self.now, "seconds": self.seconds, "run": self.path, "merge": self.merge,
        }  # fmt: skip

    def __rich__(self) -> Group:
        """Two lines, never broken: what is done, and what to do when all parts are."""
        from rich.console import Group
        from rich.text import Text

        done = f"all {self.units} units done, {self.now} of them now ({self.seconds:.1f} s)"
        lines = (
            f"shard {self.part} of {self.command}, {self.model_label}: {done}, in {self.path}",
            f"when all {self.part.of} are done: {self.merge}",
        )
        return Group(*(Text(line, no_wrap=True, overflow="ignore") for line in lines))


def spread(job: Job[Any], units: Iterable[Unit]) -> Iterator[Gave]:
    """What each unit gave, in their order, as soon as it is there; who stops asking stops the work.

    Raises PartDone behind the last unit of a part, RunError where a merge lacks a unit.
    """
    server = serving.SERVER.get()
    if server is not None:
        server.serve(job, {unit.name: unit.work for unit in units})
    elif job.part is not None:
        raise PartDone(_do_part(job, job.part, list(units)))
    elif merging.MERGED.get() is not None:
        yield from (_merged(job, unit) for unit in units)
    elif job.engine.ray:
        from workbench.ray_engine import spread_over

        yield from spread_over(job, list(units))
    else:
        yield from (job.remember(unit.name, unit.work) for unit in units)


def made_with(job: Job[Any]) -> dict[str, Any]:
    """What decides the last bits of a number beside the question: merged parts have it in common."""
    used = versions()
    return {
        **{name: used.get(name) for name in DECIDING}, "backend": job.backend_in_words,
        "device": job.model.device.type, "batch": getattr(job.config, "batch", None),
        "memory": getattr(job.config, "memory", None),
    }  # fmt: skip


def _do_part(job: Job[Any], part: Part, units: list[Unit]) -> PartResult:
    """Write down which units are its own, do those that are not done; a killed part tells what it lacks."""
    run = job.run
    assert run is not None, "a part has a folder"
    owners = deal([unit.cost for unit in units], part.of)
    own = [unit for unit, owner in zip(units, owners, strict=True) if owner == part.index]
    missing, report = {unit.name for unit in own} - run.done(), job.stages.stage(f"shard {part}")
    run.write_json(PLAN, _plan(job, part, own, len(units), bool(missing)))
    for done, unit in enumerate(own):
        report(done, len(own))
        job.remember(unit.name, unit.work)
    report(len(own), len(own))
    result = PartResult(job.command, job.model.label, part, len(own), len(missing), job.seconds, str(run.path))
    run.finish(result.summary(), job.cost())
    for warning in run.warnings:
        job.stages.note(f"note: {warning}")
    return result


def _plan(job: Job[Any], part: Part, own: list[Unit], total: int, works: bool) -> dict[str, Any]:
    """works: whether units are still to be done; those that are done tell with what, in the plan of before."""
    before = _made_before(job.run) if job.run is not None and job.run.done() else {}
    here = made_with(job)
    made = {key: _both(before[key], here[key], works) if key in before else here[key] for key in here}
    return {
        **stamp(), "shard": str(part), "units": [unit.name for unit in own], "of_units": total,
        "options": merging.in_words(job.config), "made_with": made,
    }  # fmt: skip


def _made_before(run: Run) -> dict[str, Any]:
    try:
        made = read_json(run.path / PLAN, "the plan of a part")["made_with"]
    except (BadInput, KeyError, TypeError):
        return {}
    return made if isinstance(made, dict) else {}


def _both(before: Any, here: Any, works: bool) -> Any:
    """What a part was begun with and goes on with; what came last counts once."""
    return before if not works or str(before).split(" then ")[-1] == str(here) else f"{before} then {here}"


def _merged(job: Job[Any], unit: Unit) -> Gave:
    """A unit that a part did; nothing is computed again, else a merge would hide what the parts lack."""
    run: Run | None = job.run
    if run is None or unit.name not in run.done():
        raise RunError(f"no part holds unit {unit.name!r}: run the shards again with this version, then merge")
    return run.load(unit.name)
