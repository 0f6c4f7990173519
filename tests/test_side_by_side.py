"""Test files run side by side: what is held of the processes that run them."""

from __future__ import annotations

import os

import pytest
import torch


def test_each_process_has_its_share_of_the_cores():
    """More threads than cores spin against one another: the whole suite once took twice as long."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        pytest.skip("one process has all of them: run with -n auto")
    share = max(1, (os.cpu_count() or 1) // workers)
    assert torch.get_num_threads() == int(os.environ.get("OMP_NUM_THREADS", share)), "or as many as the user asked for"
