"""The peers of the benchmarks give the scores that ours give: correctness, not time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.probes.retrieval import score_block
from workbench.reference_models import catalogue
from workbench.tasks.needle import Assembler, answer_ends, blocks

from .builds import wide_llama
from .peers import eager_bridge, flash_then_eager


@pytest.fixture(scope="module", params=["llama", "wide"])
def scored(request, tmp_path_factory):
    """Place, samples, stop tokens, our scores."""
    place = "llama" if request.param == "llama" else str(wide_llama(tmp_path_factory.mktemp("wide")))
    model = wb.load(place)
    unit = next(blocks(Assembler(model.tokenizer), [128], [0.0, 50.0, 100.0], 1, seed=5))
    stops = answer_ends(model.tokenizer, model.stop_tokens)
    return place, unit.samples, stops, score_block(model, unit, stops)


def check(theirs, ours):
    assert sum(s.raw.sum() for s in ours) > 1, "something is copied"
    for a, b in zip(theirs, ours, strict=True):
        assert a.response == b.response
        np.testing.assert_array_equal(a.distinct, b.distinct)
        np.testing.assert_array_equal(a.raw, b.raw)


def test_flash_then_eager_decoding_gives_our_scores(scored):
    place, samples, stops, ours = scored
    folder = catalogue.folder(place) if place == "llama" else place
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    check([flash_then_eager.score(plain, s, stops) for s in samples], ours)


@pytest.mark.parametrize("variant", ["cached", "streamed"])
def test_an_eager_bridge_gives_our_scores(scored, variant):
    place, samples, stops, ours = scored
    bridge = wb.load(place).bridge
    check([eager_bridge.VARIANTS[variant](bridge, s, stops) for s in samples], ours)
