"""What samples take while their choices are weighed: what a budget of memory is divided by."""

from __future__ import annotations

from typing import Any

from workbench.choosing import ChoiceRows
from workbench.footprint import forward_bytes, stream_bytes
from workbench_analyses.calibrate_heads import CalibrateHeads

FLOAT = 4


def rows_of_one(rows: ChoiceRows) -> int:
    """Rows of the sample that has most of them."""
    return int(rows.owner.bincount().max())


def at_once(config: CalibrateHeads, rows: ChoiceRows) -> int:
    """Samples whose rows are one forward of `batch=`."""
    return max(1, config.batch // rows_of_one(rows))


def choice_bytes(model: Any, rows: ChoiceRows) -> int:
    """Bytes of one sample in a forward: its rows, the stream that they resume from, their log-probabilities."""
    n, kept = rows.tokens.shape[1], rows.kept.stop - rows.kept.start
    probabilities = FLOAT * kept * int(model.bridge.cfg.d_vocab)
    return rows_of_one(rows) * (forward_bytes(model, n, kept) + stream_bytes(model, n) + probabilities)


def sink_bytes(model: Any, width: int) -> int:
    """Bytes of received attention, its level and the flags of one prompt's keys, in all heads."""
    return 4 * FLOAT * model.n_layers * model.n_heads * width
