"""Rows at a time: as many as a budget of memory holds, and half as many wherever memory runs out all the same.

The budget is what work may take beside the loaded weights. What it counts is estimated (`workbench.footprint`) and
measured in tests; see docs/determinism.md.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from workbench.errors import TooLarge
from workbench.sizes import amount, bytes_of

T = TypeVar("T")
MEMORY = 4 << 30
"""Bytes that work may take where nobody has said it; a single row that takes more is then tried all the same."""
_WORDS = (
    "out of memory", "can't allocate memory", "not enough memory: you tried to allocate", "Cannot allocate memory",
    "Invalid buffer size: ", "ALLOC_FAILED", "ALLOCATION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",
)  # fmt: skip
"""How torch says that memory ran out where it raises a plain RuntimeError: by system, MPS, cuDNN, cuBLAS."""


class RanOut(TooLarge):
    """Memory ran out with a single row at work."""


class FewerRows(UserWarning):
    """Memory ran out, and the work goes on with fewer rows at a time."""


def in_parts(
    model: Any, what: str, rows: int, each: int, work: Callable[[slice], T], memory: int | str | None = None,
    fixed: int = 0, most: int | None = None, together: int = 1,
) -> list[T]:  # fmt: skip
    """What `work` gives for slices of so many rows, one after another, each as long as the memory permits.

    what: names the work in messages; where memory has run out in it, the model remembers. each, fixed: bytes that a row
    takes while it is at work, and that are taken however many there are. memory: the budget; None: `model.memory`, else
    MEMORY. most: rows at a time at most, 1 if less. together: what one row is, for messages: so many that stay
    together. Where torch runs out of memory the slice is halved, said once as FewerRows; the
    slices that take its place end where it ended, so work that keeps what it had done of it needs to know no more.

    Raises TooLarge, with the least that works, where a stated budget does not hold one row, and RanOut where one row is
    too much for the machine.
    """
    found: list[T] = []
    start, ends = 0, [rows]
    while start < rows or not found:
        end = min((e for e in ends if e > start), default=rows)
        stop = min(end, start + rows_at_once(model, what, each, memory, fixed, most, together))
        try:
            found.append(work(slice(start, stop)))
            start, failed = stop, 0
        except Exception as error:
            if not ran_out(error):
                raise
            failed = max(1, stop - start)  # an empty batch, too, ends
            ends.append(stop)
        if failed:  # behind the handler, for its traceback holds the tensors
            _halve(model, what, failed, each, together)
    return found


def at_most(
    model: Any, what: str, most: int, each: int, work: Callable[[int], T], memory: int | str | None = None
) -> T:
    """What `work` gives that divides its rows itself and is told how many it may take at a time, `most` or fewer.

    Wherever torch runs out of memory it begins anew with half as many. Otherwise as `in_parts`.
    """
    while True:
        size = rows_at_once(model, what, each, memory, most=most)
        try:
            return work(size)
        except Exception as error:
            if not ran_out(error):
                raise
        _halve(model, what, size, each)  # behind the handler, for its traceback holds the tensors


def rows_at_once(
    model: Any, what: str, each: int, memory: int | str | None = None, fixed: int = 0, most: int | None = None,
    together: int = 1,
) -> int:  # fmt: skip
    """How many rows the budget holds, see `in_parts`. Raises TooLarge where a stated one does not hold one."""
    stated = stated_budget(model, memory)
    if stated is not None and fixed + each > stated:
        raise TooLarge(
            f"{what}: {amount(fixed + each)} are needed for {_rows(together)}, more than {amount(stated)}: "
            f"raise memory= to {amount(fixed + each)}, or give shorter{' or fewer' * (together > 1)} prompts"
        )
    room = budget_of(model, memory) - fixed
    room = min(room, model.ceilings.get(what, room))
    at_once = max(1, room // max(1, each))
    return at_once if most is None else max(1, min(at_once, most))


def stated_budget(model: Any, memory: int | str | None = None) -> int | None:
    """Bytes that were asked for here or of the model; None where nobody has said any. Raises BadInput for no amount."""
    said = model.memory if memory is None else memory
    return bytes_of(said) if isinstance(said, str) else said


def budget_of(model: Any, memory: int | str | None = None) -> int:
    """The stated budget, or MEMORY."""
    return stated_budget(model, memory) or MEMORY


def ran_out(error: BaseException) -> bool:
    """Whether an error says that the machine has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError | RanOut):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def _rows(together: int) -> str:
    return "one row" if together <= 1 else f"{together} rows that stay together"


def _halve(model: Any, what: str, failed: int, each: int, together: int = 1) -> None:
    """Remember that so many rows were too many. Raises RanOut where it was one, or some that stay together."""
    if model.device.type in ("cuda", "mps"):
        getattr(torch, model.device.type).empty_cache()
    if failed == 1:
        raise RanOut(
            f"{what}: memory ran out on {model.device} with {_rows(together)}{' at a time' * (together <= 1)}: give "
            f"shorter{' or fewer' * (together > 1)} prompts, a smaller dtype= or another device="
        )
    half = failed // 2
    if what not in model.ceilings:
        line = f"{what}: memory ran out on {model.device} with {failed} rows at a time; going on with {half} at most"
        warnings.warn(line, FewerRows, stacklevel=3)
    model.ceilings[what] = half * max(1, each)


@contextmanager
def budgeted(model: Any, memory: str | None, say: Callable[[str], None]) -> Iterator[None]:
    """Inside, the model has this budget, if one is given, and what FewerRows warns of goes to a function."""
    before, shown = model.memory, warnings.showwarning

    def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, FewerRows):
            say(f"note: {message}")
        else:
            shown(message, category, *rest, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", FewerRows)
        warnings.showwarning = show
        model.memory = before if memory is None else memory
        try:
            yield
        finally:
            model.memory = before
