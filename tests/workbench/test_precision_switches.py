"""A run says how float32 is multiplied, by torch's old switches and by the new ones."""

from __future__ import annotations

import json
from typing import Any

import torch

import workbench as wb
from workbench.conditions import conditions


def test_the_new_switches_of_precision_are_told_and_hinder_nothing():
    """Torch refuses to tell the old ones once a new one is set."""
    model = wb.load("planted-copy")
    backends: Any = torch.backends
    before = backends.fp32_precision
    usual = conditions(model)
    assert usual["float32_matmul_precision"] == "highest" and not any("fp32_precision" in name for name in usual)
    backends.fp32_precision = "tf32"
    try:
        set_so = conditions(model)
    finally:
        backends.fp32_precision = before
    assert set_so["all_fp32_precision"] == set_so["mkldnn_matmul_fp32_precision"] == "tf32"
    assert set_so["float32_matmul_precision"] is None and json.dumps(set_so)
    assert conditions(model) == usual
