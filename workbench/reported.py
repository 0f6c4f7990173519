"""Base of results: one report, one line, and the command line that does it again.

A new result gives `verdict`, `page()` (the HTML) and `summary()`; one of a command also `config`, `model_label` and, as
class values, `typed` (its Command) with `always` and `aside` where they differ. Needs no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from workbench import atomic
from workbench.command import Command
from workbench.option_values import CALM


class Reported(ABC):
    """A result that has a report."""

    @property
    @abstractmethod
    def verdict(self) -> str:
        """The finding in a line; what was not found comes first."""

    @abstractmethod
    def page(self) -> str:
        """The report as one offline HTML page; views are imported when it is asked for."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The result as plain values."""

    def report(self, path: str | Path | None = None) -> str:
        """The report as one offline HTML page; written to `path` where one is given."""
        page = self.page()
        if path is not None:
            atomic.write_bytes(Path(path), page.encode())
        return page

    def __repr__(self) -> str:
        """The finding in a line."""
        return f"{type(self).__name__}({self.verdict})"


class OfCommand(Reported):
    """The result of a command. always: options its command line says whatever their values; aside: those it leaves out."""

    typed: ClassVar[Command]
    always: ClassVar[Sequence[str]] = ("model",)
    aside: ClassVar[Sequence[str]] = CALM
    config: Any
    model_label: str
    cost: dict[str, float]
    path: str | None

    @property
    def command(self) -> str:
        """The command line that gives the same numbers."""
        from workbench.options import command_line

        return command_line(self.typed, self.config, self.always, self.aside)

    @property
    def error(self) -> str | None:
        """What of the work failed, though there is a result."""
        return None

    @property
    def exit_code(self) -> int:
        """What the command line ends with."""
        return 0 if self.error is None else 1

    def __repr__(self) -> str:
        """The finding in a line, and of which model."""
        return f"{type(self).__name__}({self.model_label}: {self.verdict})"
