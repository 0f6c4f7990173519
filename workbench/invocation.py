"""The command line that this process is answering, for run records; empty when used from Python."""

from __future__ import annotations

import shlex
from contextvars import ContextVar

arguments: ContextVar[tuple[str, ...]] = ContextVar("arguments", default=())


def command_line() -> str | None:
    """What was typed, quoted for a shell, or None when no command line started the work."""
    typed = arguments.get()
    return shlex.join(("workbench", *typed)) if typed else None
