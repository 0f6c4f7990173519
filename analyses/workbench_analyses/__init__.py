"""Analyses: one file a research question, composed from the core; each scans without the command line too."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench_analyses import attention_sinks, calibrate_heads, circuit_reuse, repair_heads, retrieval_heads

__all__ = ["attention_sinks", "calibrate_heads", "circuit_reuse", "repair_heads", "retrieval_heads"]


def __getattr__(name: str) -> Any:
    """Analyses on first use."""
    if name in __all__:
        return importlib.import_module(f"workbench_analyses.{name}")
    raise AttributeError(f"module 'workbench_analyses' has no attribute {name!r}")
