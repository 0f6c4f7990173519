"""What Ray hands back for one request to a worker: an answer, a worker that is gone, or work that failed, each in a line."""

from __future__ import annotations

import re
from typing import Any

from workbench.errors import RunError, WorkbenchError

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 300  # characters of a reason: Ray's advice fills pages


class Died:
    """A worker that is gone, in words."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __str__(self) -> str:
        """For messages."""
        return self.why


def answer_of(ray: Any, ref: Any, what: str) -> Any:
    """What `ref` holds, or Died where its worker or that worker's machine is gone. ray: the module; what: for messages.

    Raises WorkbenchError for what the work itself raised, RunError where Ray could not do it.
    """
    lost = ray.exceptions
    gone = (
        lost.RayActorError, lost.ObjectLostError, lost.WorkerCrashedError,
        lost.OutOfMemoryError, lost.NodeDiedError,  # Ray's own killing for memory; neither is a RayActorError
    )  # fmt: skip
    try:
        return ray.get(ref)
    except gone as error:
        return Died(reason(error))
    except lost.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, WorkbenchError):
            raise cause from None
        raise RunError(f"{what} failed on a Ray worker: {type(cause).__name__}: {cause}") from None
    except lost.RayError as error:
        raise RunError(f"engine=ray: {what}: {type(error).__name__}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Why, without colours and tables: what stands behind a traceback, else the lines that are not indented."""
    lines = [line for line in _COLOURS.sub("", str(error)).splitlines() if line.strip()]
    indented = [i for i, line in enumerate(lines) if line[0].isspace()]
    traced = any(line.startswith('  File "') for line in lines)
    told = lines[indented[-1] + 1 :] if traced else [line for line in lines if not line[0].isspace()]
    said = " ".join(" ".join(told).split())
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} …"
