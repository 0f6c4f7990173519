"""Test files run side by side: each process gets its share of the cores, and the long files begin first."""

from __future__ import annotations

import os
from pathlib import Path

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before anything imports torch, which reads it then
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import pytest
from browser_pages import browser, show
from narrow_memory import narrow

LONG = ("notebooks", "kernels/test_triton.py", "analyses", "kernels")
"""Begun in this order, before all others: xdist would begin with files of many tests, and end with one long one."""

__all__ = ["browser", "narrow", "show"]


def pytest_configure(config: pytest.Config) -> None:
    """The order below stands."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a file nothing changes its place."""
    home = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(home).as_posix()
        return next((i for i, start in enumerate(LONG) if name.startswith(start)), len(LONG))

    items.sort(key=place)
