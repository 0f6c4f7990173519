"""A command that does its units by name, for a driver elsewhere: it runs up to its units and then waits to be asked.

The command runs in a thread of its own, with its model loaded and its backend in use, as long as the process lives.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from workbench.conditions import conditions
from workbench.errors import BadInput, RunError
from workbench.jsonable import jsonable
from workbench.run_record import present, with_options

if TYPE_CHECKING:
    from workbench.jobs import Job
    from workbench.runs import Work

SERVER: ContextVar[Server | None] = ContextVar("SERVER", default=None)
"""Whoever serves in this thread."""


class Server:
    """One command. `begin` waits until it is ready; `do` does one unit. One request at a time."""

    def __init__(self, name: str, words: Sequence[str], folder: str | None = None) -> None:
        if folder is not None and os.path.isdir(folder):
            os.chdir(folder)  # where relative paths of the words begin, if this machine has that folder
        self._asked: queue.Queue[str] = queue.Queue()
        self._told: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._run, args=(name, list(words)), daemon=True).start()

    def begin(self) -> dict[str, Any]:
        """What must be alike on all machines (`facts`, see `facts_of`), the circumstances, the process' number.

        Raises what the command raised.
        """
        return {**self._answer(), "pid": os.getpid()}

    def do(self, unit: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Arrays and facts of a unit. Raises what its work raised, BadInput for a unit that is not known here."""
        self._asked.put(unit)
        return self._answer()

    def serve(self, job: Job[Any], units: Mapping[str, Work]) -> NoReturn:
        """Called by the command where it would do its units; never returns."""
        self._told.put(
            {"facts": facts_of(job), "circumstances": present(with_options(conditions(job.model), job.config))}
        )
        while True:
            unit = self._asked.get()
            try:
                if unit not in units:
                    raise BadInput(f"a worker has no unit {unit!r}: do all machines read the same files?")
                self._told.put(units[unit]())
            except Exception as error:
                self._told.put(error)

    def _answer(self) -> Any:
        told = self._told.get()
        if isinstance(told, BaseException):
            raise told
        return told

    def _run(self, name: str, words: list[str]) -> None:
        from workbench.discovery import commands
        from workbench.options import parse

        SERVER.set(self)
        try:
            command = commands()[name]
            command.run(parse(command, words).config)
            raise RunError(f"{name} ended without units to spread")
        except BaseException as error:
            self._told.put(error)


def facts_of(job: Job[Any]) -> dict[str, Any]:
    """What a driver and its workers must have in common: the question (user's files may differ), the model, what computes."""
    from workbench.spreading import made_with

    return {**jsonable(job.question), "model": [job.identity.config_hash, job.identity.weights], **made_with(job)}
