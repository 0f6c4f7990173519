"""What the command line knows of a command: one frozen value per file, found by scanning a package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Result(Protocol):
    """What a command returns: something to print for people and for machines."""

    def __rich__(self) -> Any:
        """The picture in the terminal (a rich renderable)."""
        ...

    def summary(self) -> dict[str, Any]:
        """The same facts as JSON-able values."""
        ...


@dataclass(frozen=True)
class Command:
    """A command: `workbench NAME key=value …`.

    config: a chz class; its fields are the options, their `doc=` the help.
    run: takes the config, does the work (importing what is heavy inside) and returns a Result.
    positional: names of leading fields that may be given without `key=`, as in `compare A B`.
    """

    name: str
    help: str
    config: type
    run: Callable[[Any], Result]
    positional: tuple[str, ...] = ()
