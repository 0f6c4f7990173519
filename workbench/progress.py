"""Progress of long work on stderr (in notebooks stdout): a live bar in a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from workbench.lossy import Lossy
from workbench.untrusted import printable

Report = Callable[[int, int], None]
"""Takes the units done and the total."""


PATIENCE = 3.0
"""Seconds of the processor after which `counting` says how far it is."""


class Stages:
    """Named stages of one piece of work; `stage` gives the function that reports how far it is."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self.console, self.bar = console, bar

    def stage(self, name: str, total: int | None = None) -> Report:
        """A stage of `total` units, unknown until the first report where it is None."""
        if self.bar is None:
            return _lines(self.console, name)
        bar, task = self.bar, self.bar.add_task(name, total=total)
        return lambda done, total: bar.update(task, completed=done, total=total)

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.print(printable(text, "\n\t"), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Stages]:
    """Stages on stderr. Notebooks get lines: a live widget would be saved with them and show nothing."""
    # rich would also take a notebook's FORCE_COLOR for a terminal
    live = sys.stderr is not None and sys.stderr.isatty()
    console = Console(file=_aloud(), force_jupyter=False, force_terminal=live)
    if not live:
        yield Stages(console, None)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        yield Stages(console, bar)


def counting(name: str, n: int) -> Iterator[int]:
    """0 to n - 1, for what is drawn before the stages of the work: says how far it is, if it takes long."""
    started, busy, report = time.perf_counter(), time.process_time(), None
    for i in range(n):
        yield i
        if report is None and time.process_time() - busy > PATIENCE:
            report = _lines(Console(file=_aloud()), name, started)
        if report is not None:
            report(i + 1, n)


def _aloud() -> Any:
    """The stream that people read; what it cannot take is lost."""
    return Lossy(sys.stdout if _in_notebook() else sys.stderr)


def _in_notebook() -> bool:
    """Whether this process is a notebook's kernel, where stderr is set in red."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def _lines(console: Console, name: str, since: float | None = None) -> Report:
    started, told = time.perf_counter() if since is None else since, -1

    def report(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // max(1, total)
        if tenth > told and done:
            told = tenth
            spent = time.perf_counter() - started
            left = spent / done * (total - done)
            rest = f", about {left:.0f} s left" if done < total else ""
            console.print(f"{name}: {done} of {total}, {spent:.0f} s{rest}", markup=False, highlight=False)

    return report
