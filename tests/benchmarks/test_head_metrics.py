"""The corpus metrics of the atlas are those of whole patterns, taken as HeadVis' users take them: figures, not time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM

import workbench as wb

sys.path.insert(0, str(Path(__file__).parent))
import head_metrics
from peers.headvis_eager import PEERS


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("way", head_metrics.WAYS)
def test_the_six_metrics_are_those_of_whole_patterns(kind, way, tmp_path):
    model = wb.load(tiny_models.save(kind, tmp_path))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32).eval()
    tokens = torch.randint(3, 20, (2, 90), generator=torch.Generator().manual_seed(4))
    ours = head_metrics.OURS[way](model, tokens)
    for peer, run in zip(PEERS.values(), (plain, model.bridge), strict=True):
        theirs = peer(run, tokens)
        head_metrics.check(theirs, ours)
        with pytest.raises(AssertionError, match="induction"):
            head_metrics.check({**theirs, "induction": theirs["induction"] * 1.01}, ours)
