"""Lists of heads calibrated together, on samples that had no part in choosing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench.choosing import choice_rows, log_probs, margins
from workbench.controls import Heads
from workbench.tasks.choices import ChoiceSample
from workbench_analyses.calibrate_heads import CalibrateHeads
from workbench_analyses.calibration.alone import calibrated


@torch.no_grad()
def margins_of_lists(
    config: CalibrateHeads, model: Any, lists: Sequence[Heads], samples: Sequence[ChoiceSample]
) -> np.ndarray:
    """Margins of samples under each list, [lists, samples]; an empty list changes nothing."""
    rows, entering = choice_rows(samples).to(model.device), {}
    out = np.zeros((len(lists), len(samples)))
    for i, heads in enumerate(lists):
        lowest = min((layer for layer, _ in heads), default=0)
        if lowest not in entering:
            entering[lowest] = model.resid_pre(lowest, rows.tokens, rows.mask, decode_from=rows.decode_from)
        got = model.forward_from(
            lowest, entering[lowest], rows.mask, edits=calibrated(config, heads) if heads else None, keep=rows.kept,
            decode_from=rows.decode_from,
        )  # fmt: skip
        out[i] = margins(log_probs(got.logits, rows, config.per_token), rows.answers).double().cpu().numpy()
    return out
