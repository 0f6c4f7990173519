"""Edits of heads: values that compose with `+`, are JSON-able and compile to `HeadEdits` of the kernels."""

from __future__ import annotations

from workbench.interventions.compiling import compile_edits
from workbench.interventions.edit import Edit, Intervention
from workbench.interventions.mask import mask
from workbench.interventions.reference import Reference, reference
from workbench.interventions.scale import scale
from workbench.interventions.window import window

__all__ = ["Edit", "Intervention", "Reference", "compile_edits", "mask", "reference", "scale", "window"]
