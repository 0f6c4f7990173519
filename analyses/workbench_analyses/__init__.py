"""Analyses: one file a research question, composed from the core; each scans without the command line too."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that editors complete them
    from workbench_analyses import (
        atlas,
        attention_sinks,
        calibrate_heads,
        choose_cut,
        circuit_reuse,
        fit_windows,
        kv_policies,
        repair_heads,
        retrieval_heads,
        trace_circuit,
        visual_heads,
    )

__all__ = [
    "atlas", "attention_sinks", "calibrate_heads", "choose_cut", "circuit_reuse", "fit_windows", "kv_policies",
    "repair_heads", "retrieval_heads", "trace_circuit", "visual_heads",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Analyses on first use: every module of this package is one, whether it is listed above or not."""
    if name in __dir__():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The analyses."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
