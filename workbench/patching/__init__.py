"""Patching: what a change of one part of the model does to its answer, along one path or in all.

`path_effects` is exact and needs no forward per sender. `activation_effects` patches an activation with everything behind
it live; `attribution_effects` and `edge_effects` (EAP, EAP-IG) estimate effects from gradients; `direct_logits` says what
each part writes into the logits; `kept_differences` runs the model with only some heads at work.
"""

from __future__ import annotations

from workbench.patching.activation import activation_effects
from workbench.patching.attribution import attribution_effects
from workbench.patching.direct import DirectLogits, direct_logits
from workbench.patching.edges import EdgeEffects, edge_effects
from workbench.patching.kept_heads import head_sets, kept_differences
from workbench.patching.paths import effects_of_paths, path_effects
from workbench.patching.promoted import promoted_tokens
from workbench.patching.replacements import MeanOutputs, mean_outputs
from workbench.patching.written import Written, written_tokens

__all__ = [
    "DirectLogits", "EdgeEffects", "MeanOutputs", "Written", "activation_effects", "attribution_effects",
    "direct_logits", "edge_effects", "effects_of_paths", "head_sets", "kept_differences", "mean_outputs", "path_effects",
    "promoted_tokens", "written_tokens",
]  # fmt: skip
