"""What the command line knows of a command: one frozen value per file, found by scanning a package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class RunKind:
    """A kind of run that `workbench compare A B` compares in its own way: one frozen `COMPARE` value in its analysis.

    file: what a folder of this kind holds. name: what that is, in words. compare: takes two paths and options by name,
    those of `config` (a chz class), and returns a Result.
    """

    file: str
    name: str
    compare: Callable[..., Result]
    config: type

    def holds(self, path: str | Path) -> bool:
        """Whether a path is such a folder, or the file in it."""
        return Path(path).name == self.file if Path(path).is_file() else (Path(path) / self.file).is_file()
