"""Workbench: find the attention heads that matter, prove it by intervention, show them, serve them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import workbench_analyses as analyses

    from workbench import live, patching, probes, views, visual
    from workbench.circuits import read_circuit
    from workbench.comparison import compare
    from workbench.exporters import export
    from workbench.head_lists import read_heads
    from workbench.interventions import (
        Intervention,
        amplify,
        bias,
        calibrate,
        mask,
        pai,
        patch,
        redirect,
        reference,
        route,
        scale,
        set_pattern,
        suppress,
        window,
    )  # fmt: skip
    from workbench.models import Model, intervene, load
    from workbench.observation import observe, observing
    from workbench.scores_io import read_scores, write_scores

__version__ = "0.1.0"

_HOMES = {
    "load": "models", "Model": "models", "intervene": "models",
    **dict.fromkeys((
        "Intervention", "amplify", "bias", "calibrate", "mask", "pai", "patch", "probes", "redirect", "reference", "route",
        "scale", "set_pattern", "suppress", "window",
    ), "interventions"),
    "read_circuit": "circuits", "read_heads": "head_lists", "read_scores": "scores_io", "write_scores": "scores_io",
    "export": "exporters", "compare": "comparison",
    "observe": "observation", "observing": "observation",
}  # fmt: skip
__all__ = [
    "Intervention",
    "Model",
    "amplify",
    "analyses",
    "bias",
    "calibrate",
    "compare",
    "export",
    "intervene",
    "live",
    "load",
    "mask",
    "observe",
    "observing",
    "pai",
    "patch",
    "patching",
    "probes",
    "read_circuit",
    "read_heads",
    "read_scores",
    "redirect",
    "reference",
    "route",
    "scale",
    "set_pattern",
    "suppress",
    "views",
    "visual",
    "window",
    "write_scores",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names on first use, so that `import workbench` costs nothing."""
    if name == "analyses":
        return importlib.import_module("workbench_analyses")
    if name in ("live", "patching", "probes", "views", "visual"):
        return importlib.import_module(f"workbench.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"workbench.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")
