"""Which versions are installed, read from package metadata without importing anything heavy."""

from __future__ import annotations

import platform
from importlib import metadata

import workbench

DISTRIBUTION = "workbench-interp"
RECORDED = ("torch", "transformers", "transformer-lens", "tokenizers", "numpy", "triton")
DECIDING = ("workbench", *RECORDED)
"""Those whose change can change the last bits of a number."""


def version(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """What a run record names: workbench, python and the libraries that decide numbers."""
    recorded: dict[str, str | None] = {"workbench": workbench.__version__, "python": platform.python_version()}
    return recorded | {name: version(name) for name in RECORDED}
