"""What the `triton` backend can do, said before anything is launched; needs no Triton."""

from __future__ import annotations

import torch

from workbench_kernels.types import CLASSES, AttentionSpec, Edits, HeadEdits, Reductions, phases

SWEPT = {
    "profile": "the distance profile of rows", "moments": "moments of the distance", "matches": "the mass on matching keys",
}  # fmt: skip
"""Statistics that only the sweep of `chunked` gives."""


class Unsupported(NotImplementedError):
    """A request that a backend refuses."""


def why_not(spec: AttentionSpec, edits: Edits = None, want: Reductions | None = None) -> str | None:
    """The first reason to refuse; None where the backend does it all."""
    if spec.allowed is not None:
        return "a mask function"
    reason = next(filter(None, map(_why_not_edits, phases(edits))), None)
    if reason is not None:
        return reason
    if want is not None:
        if want.grad and torch.is_grad_enabled():
            return "gradients of statistics"
        if len(phases(edits)) > 1:
            return "statistics under edits of several phases"
        if want.distance:
            return "the distance profile"
        if want.offsets:
            return "the attention at an offset"
        if want.swept:
            return SWEPT[want.swept[0]]
        if want.top_k and want.rows is None:
            return "the top keys of every row"
    return None


def _why_not_edits(edits: HeadEdits) -> str | None:
    if edits.uniform is not None:
        return "uniform heads"
    if edits.rows is not None:
        return "replaced rows of the pattern"
    classes = [x.shape[-1] for x in (edits.class_gain, edits.least_mass, edits.bias, edits.boost) if x is not None]
    if max(classes, default=0) > CLASSES:
        return f"more than {CLASSES} key classes"
    return "class edits without key_class" if classes and edits.key_class is None else None
