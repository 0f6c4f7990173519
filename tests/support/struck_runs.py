"""Runs that are struck and go on: the same files in the end, and at most one unit done twice for every strike."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faults

STAMPS = ("started", "resumed", "ended", "cost")


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its folder's name and files, the writes and the units it takes."""

    name: str
    files: dict[str, Any]
    writes: int
    units: list[str]


class Struck(ABC):
    """Work with a run folder below `home`/runs; `home`/begun names the units that were begun, as often as they were."""

    def __init__(self, home: Path) -> None:
        self.home, self.out, self.log = home, home / "runs", home / "begun"
        home.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def answer(self) -> int:
        """Do the work, or go on with it: its exit code."""

    @property
    def begun(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def said(self) -> list[str]:
        """Lines of `home`/said, if the work says anything."""
        said = self.home / "said"
        return said.read_text().splitlines() if said.exists() else []

    @property
    def run(self) -> Path:
        (run,) = self.out.iterdir()
        return run

    def record(self) -> dict[str, Any]:
        return json.loads((self.run / "run.json").read_text())

    def finished(self) -> list[str]:
        """Units with a whole line in the log of the run."""
        logs = [log.read_text().rpartition("\n")[0] for log in self.out.glob("*/progress.jsonl")]
        return [json.loads(line)["unit"] for log in logs for line in log.splitlines()]

    def unfinished_files(self) -> list[str]:
        return [p.name for p in self.out.rglob("*") if p.name == "lock" or p.suffix == ".partial"]

    def whole(self) -> Whole:
        """Do it undisturbed, in this process: what a forked one would import is then there."""
        with faults.Writes(self.out).watched() as writes:
            assert self.answer() == 0, self.said()
        assert len(self.begun) == len(set(self.begun)) and self.begun == self.finished()
        return Whole(self.run.name, left_by(self.run), len(writes.log), self.begun)

    def struck(self, fault: faults.Fault, apart: bool = True) -> int:
        """How the work ends with a fault at one of its writes. apart: in a process of its own."""
        work = partial(self._watched, fault)
        return self.session(partial(faults.forked, work) if apart else work)

    def session(self, work: Callable[[], int]) -> int:
        """Do some of the work: no unit that was finished is begun again, and one at most is begun and not finished."""
        before, begun = set(self.finished()), len(self.begun)
        code = work()
        new, lost = self.begun[begun:], set(self.begun) - set(self.finished())
        assert not before & set(new), f"finished and done again: {before & set(new)}"
        assert len(lost) <= 1, f"begun and not finished: {lost}"
        return code

    def goes_on(self, whole: Whole, apart: bool = False) -> None:
        """Undisturbed, the rest of the work leaves the same files and no others."""
        assert len(set(self.begun) - set(self.finished())) <= 1
        assert self.session(partial(faults.forked, self.answer) if apart else self.answer) == 0
        assert left_by(self.run) == whole.files
        assert list(dict.fromkeys(self.begun)) == whole.units and not self.unfinished_files()

    def _watched(self, fault: faults.Fault) -> int:
        with faults.Writes(self.out, fault).watched():
            return self.answer()


def left_by(run: Path) -> dict[str, Any]:
    """All files of a run folder by name, less what tells time and cost."""
    held: dict[str, Any] = {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}
    record = json.loads(held["run.json"])
    held["run.json"] = {key: value for key, value in record.items() if key not in STAMPS}
    lines = map(json.loads, held["progress.jsonl"].splitlines())
    held["progress.jsonl"] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return held
