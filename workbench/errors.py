"""Errors that a user can cause: one line each that says what, where and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Work that failed. The command line prints the message and exits with `exit_code`."""

    exit_code = 1


class BadInput(WorkbenchError, ValueError):
    """Something that was asked for cannot be meant: exit code 2."""

    exit_code = 2


class ModelError(BadInput):
    """A model that cannot be loaded."""


class Unsupported(BadInput):
    """A model or a request that the seam cannot serve; never answered by something else."""


class EditConflict(BadInput):
    """Two edits of one head that cannot both hold."""


class TooLarge(BadInput):
    """A request whose result or scratch memory exceeds what is allowed."""


class RunError(WorkbenchError):
    """A run folder that cannot be used."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
