"""Lists of heads calibrated together, on samples that had no part in choosing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench.budget import in_parts
from workbench.choosing import choice_rows, log_probs, margins
from workbench.controls import Heads
from workbench.footprint import stream_bytes
from workbench.tasks.choices import ChoiceSample
from workbench_analyses.calibrate_heads import CalibrateHeads
from workbench_analyses.calibration.alone import calibrated
from workbench_analyses.calibration.sizes import at_once, choice_bytes, rows_of_one


@torch.no_grad()
def margins_of_lists(
    config: CalibrateHeads, model: Any, lists: Sequence[Heads], samples: Sequence[ChoiceSample]
) -> np.ndarray:
    """Margins of samples under each list, [lists, samples]; an empty list changes nothing.

    Raises TooLarge where a stated budget of memory does not hold one sample.
    """
    rows = choice_rows(samples)
    width = rows.tokens.shape[1]
    each = choice_bytes(model, rows) + rows_of_one(rows) * stream_bytes(model, width)

    def some(part: slice) -> np.ndarray:
        return _margins(config, model, lists, samples[part], width)

    return np.concatenate(in_parts(model, "choices", len(samples), each, some, most=at_once(config, rows)), 1)


def _margins(
    config: CalibrateHeads, model: Any, lists: Sequence[Heads], samples: Sequence[ChoiceSample], width: int
) -> np.ndarray:
    """Of some samples, as many as are at work at once. The stream that enters a list's lowest layer goes on upwards."""
    rows, out = choice_rows(samples, width).to(model.device), np.zeros((len(lists), len(samples)))
    lowest = [min((layer for layer, _ in heads), default=0) for heads in lists]
    entered, resid = None, rows.tokens
    for i in sorted(range(len(lists)), key=lowest.__getitem__):
        layer, heads = lowest[i], lists[i]
        resid = model.resid_pre(layer, resid, rows.mask, decode_from=rows.decode_from, from_layer=entered)
        entered = layer
        got = model.forward_from(
            layer, resid, rows.mask, edits=calibrated(config, heads) if heads else None, keep=rows.kept,
            decode_from=rows.decode_from,
        )  # fmt: skip
        out[i] = margins(log_probs(got.logits, rows, config.per_token), rows.answers).double().cpu().numpy()
    return out
