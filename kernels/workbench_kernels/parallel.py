"""Pieces of work on the cores of a CPU, each piece on one core: no core waits for another between two operations.

Blocks that stay in a core's cache are small, and operations on them too short to share: one thread a block beats all
threads on each operation. How many run at a time is `torch.get_num_threads()`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork


def workers(device: torch.device) -> int:
    """Pieces that run at a time: one on a GPU, which is busy with one."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def run(work: Sequence[Callable[[], None]], device: torch.device) -> None:
    """Do it all; no gradients are recorded. The first exception ends it; pieces that have begun are finished."""
    at_once = min(len(work), workers(device))
    if at_once < 2:
        with torch.no_grad():
            for piece in work:
                piece()
        return
    left, inference = deque(work), torch.is_inference_mode_enabled()

    def several() -> None:
        with torch.inference_mode(inference), torch.no_grad():  # modes belong to a thread
            while left:
                try:
                    piece = left.popleft()
                except IndexError:  # another worker was quicker
                    return
                piece()

    done = [_pool(workers(device)).submit(several) for _ in range(at_once)]
    try:
        wait(done, return_when=FIRST_EXCEPTION)
    finally:
        left.clear()
    for future in done:
        future.result()


def _pool(size: int) -> ThreadPoolExecutor:
    """Threads whose torch operations use one core each; made once."""
    with _lock:
        if size not in _pools:
            pool = ThreadPoolExecutor(size, "attend", _alone)
            ready = threading.Barrier(size + 1)
            for _ in range(size):
                pool.submit(ready.wait)
            ready.wait()
            torch.set_num_threads(size)  # theirs had become the number of threads that are yet to start
            _pools[size] = pool
        return _pools[size]


def _alone() -> None:
    torch.get_num_threads()  # the first call in a thread sets the number; it must not come after ours
    torch.set_num_threads(1)
