"""A job that its scheduler or its terminal ends is ended as by Ctrl-C: the folder is given back, the record says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ASKED = ("SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """Asked to stop by a signal other than Ctrl-C. exit_code: 128 and the number of the signal, as shells say it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise Terminated, unless somebody else handles or ignores them (nohup does)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = [getattr(signal, name) for name in _ASKED if hasattr(signal, name)]
    ours = [number for number in asked if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, _terminate)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated(number)
