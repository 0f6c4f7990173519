"""The smallest window of every key-value head that keeps its output: from measured errors to windows in tokens."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from workbench.errors import BadInput
from workbench.heads import HeadScores, ModelIdentity

METHOD = "windows/output-error"
"""Of scores that are windows in tokens."""
LEAST = 16


def grid(context: int, least: int = LEAST) -> tuple[int, ...]:
    """Windows that double from the least on and stay below the context."""
    sizes = [least << i for i in range(64) if least << i < context]
    if not sizes:
        raise BadInput(f"context={context} is no longer than the least window, {least}: there is nothing to fit")
    return tuple(sizes)


def smallest(
    errors: Float[np.ndarray, "layers heads windows"], windows: tuple[int, ...], context: int, tolerance: float,
    kv_heads: int,
) -> Int[np.ndarray, "layers kv"]:  # fmt: skip
    """Windows from which on every query head of the group stays within the tolerance; `context` where none does.

    errors: of query heads, for each of the rising windows; NaN counts as an error.
    """
    worst = errors.reshape(errors.shape[0], kv_heads, -1, len(windows)).max(2)  # NaN stays NaN
    outside = ~(worst <= tolerance)
    first = np.where(outside.any(-1), len(windows) - outside[..., ::-1].argmax(-1), 0)
    return np.array([*windows, context])[first]


def as_scores(
    found: Int[np.ndarray, "layers kv"], windows: tuple[int, ...], context: int, tolerance: float, sink: int,
    model: ModelIdentity | None = None, **told: object,
) -> HeadScores:  # fmt: skip
    """Windows as scores: heads that need more rank higher, and those that need everything reach the threshold."""
    facts = {"sink_size": sink, "context": context, "tolerance": tolerance, "windows": list(windows), **told}
    return HeadScores(found, METHOD, {**facts, "threshold": context}, model, kv_heads=found.shape[1])
