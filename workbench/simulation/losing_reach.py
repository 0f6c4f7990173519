"""What every head's output loses when it sees the sinks and the last keys only: one plain forward, all windows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from workbench_kernels import AttentionSpec
from workbench_kernels.window_errors import window_errors

from workbench import backends
from workbench.simulation.cases import Batch
from workbench.simulation.reading_prompts import run


@torch.no_grad()
def output_errors(
    model: Any, batch: Batch, rows: Int[Tensor, "b r"], windows: Sequence[int], sink: int
) -> dict[int, Float[Tensor, "b h r w"]]:
    """‖z − z_w‖ / ‖z‖ by layer, at some positions (rising) of each text, for windows of so many last keys.

    The stream stays that of plain attention: an error is that of one head alone. Raises Unsupported for layers that the
    simulator does not serve.
    """
    found: dict[int, Tensor] = {}

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec) -> Tensor:
        chosen = q.gather(2, rows[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[-1]))
        found[layer] = window_errors(chosen, k, v, spec.scale, rows, windows, sink)
        return backends.attend(model.backend, q, k, v, spec, [], None)[0]

    run(model, batch.tokens, attention, slice(batch.tokens.shape[1] - 1, batch.tokens.shape[1]))
    return found
