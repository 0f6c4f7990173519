"""What work costs on this machine."""

from __future__ import annotations

import sys


def peak_memory() -> float:
    """Peak resident size of this process in MiB; NaN where the system does not tell."""
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return float("nan")
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)
