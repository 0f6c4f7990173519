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
    ours = [number for number in _asked() if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, _terminate)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def left_as_it_was() -> Iterator[None]:
    """What SIGTERM and SIGHUP mean before is what they mean behind, whoever has taken them inside."""
    if threading.current_thread() is not threading.main_thread():  # nobody can take them there
        yield
        return
    before = {number: signal.getsignal(number) for number in _asked()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not of Python's making, which cannot be set again
                signal.signal(number, handler)


def _asked() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _ASKED if hasattr(signal, name)]


def _terminate(number: int, frame: Any) -> None:
    raise Terminated(number)
