"""Edits of heads: values that compose with `+`, are JSON-able and compile to `HeadEdits` of the kernels."""

from __future__ import annotations

from workbench.interventions.amplify import amplify
from workbench.interventions.bias import bias
from workbench.interventions.calibrate import calibrate
from workbench.interventions.compiling import compile_edits
from workbench.interventions.edit import Edit, Intervention
from workbench.interventions.mask import mask
from workbench.interventions.pai import pai
from workbench.interventions.patch import patch
from workbench.interventions.redirect import redirect
from workbench.interventions.reference import Reference, reference
from workbench.interventions.route import route
from workbench.interventions.scale import scale
from workbench.interventions.set_pattern import set_pattern
from workbench.interventions.suppress import suppress
from workbench.interventions.window import window

__all__ = [
    "Edit", "Intervention", "Reference", "amplify", "bias", "calibrate", "compile_edits", "mask", "pai", "patch",
    "redirect", "reference", "route", "scale", "set_pattern", "suppress", "window",
]  # fmt: skip
