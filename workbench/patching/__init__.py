"""Patching: what a change of one part of the model does to its answer, along one path or in all.

`wb.patching.path_effects(model, clean, corrupted, answers)` is exact and needs no forward per sender.
"""

from __future__ import annotations

from workbench.patching.paths import path_effects

__all__ = ["path_effects"]
