"""Runs test_triton_cases.py under the Triton interpreter, in a process of its own: the switch is read at import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_cases_under_the_interpreter():
    pytest.importorskip("triton", reason="Triton is not installed (pip install 'triton>=3.5')")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(HERE / "test_triton_cases.py")]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=HERE.parents[1])
    # the project's own -q stands; a second one would take the summary away
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout and "skipped" not in done.stdout, done.stdout[-1000:]


def test_importing_the_package_does_not_import_triton():
    code = "import sys, workbench_kernels as w; assert 'triton' in w.BACKENDS; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
