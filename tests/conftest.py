"""Test files run side by side: each process gets its share of the cores, before torch counts them."""

from __future__ import annotations

import os

from browser_pages import browser, show  # noqa: F401

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))
