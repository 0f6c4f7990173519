"""Workbench: find the attention heads that matter, prove it by intervention, show them, serve them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import workbench_analyses as analyses

    from workbench.comparison import compare
    from workbench.exporters import export
    from workbench.interventions import mask, reference, scale, window
    from workbench.models import Model, intervene, load
    from workbench.scores_io import read_scores, write_scores

__version__ = "0.1.0"

_HOMES = {
    "load": "models", "Model": "models", "intervene": "models",
    "mask": "interventions", "scale": "interventions", "window": "interventions", "reference": "interventions",
    "read_scores": "scores_io", "write_scores": "scores_io", "export": "exporters", "compare": "comparison",
}  # fmt: skip
__all__ = [
    "Model", "analyses", "compare", "export", "intervene", "load", "mask", "read_scores", "reference", "scale",
    "window", "write_scores",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names on first use, so that `import workbench` costs nothing."""
    if name == "analyses":
        return importlib.import_module("workbench_analyses")
    if name in _HOMES:
        return getattr(importlib.import_module(f"workbench.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")
