"""The peers of the patching benchmark give the effects that ours give: correctness, not time."""

from __future__ import annotations

import pytest
import torch
from plain_patching import exact_model, prompts

import workbench as wb

from .peers.eap_ig import Graph
from .peers.path_patching import Released


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return exact_model("gpt2", tmp_path_factory.mktemp("gpt2"))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("receivers", [[], [("q", 1, 2), ("q", 2, 5)]])
def test_the_released_algorithm_gives_our_effects(receivers, frozen, model):
    senders = [(layer, head) for layer in range(3) for head in range(8)]
    with torch.no_grad():
        theirs = Released(model.bridge, *prompts()).effects(senders, receivers, frozen)
    ours = wb.patching.path_effects(model, *prompts(), receivers or "logits", mlps="frozen" if frozen else "live")
    torch.testing.assert_close(theirs.T.unflatten(-1, (3, 8)), ours, rtol=0, atol=1e-10)


def test_eap_ig_as_released_gives_our_edges(model):
    theirs = Graph(model.bridge).scores(*prompts(), 3)
    ours = wb.patching.edge_effects(model, *prompts(), 3).values.sum(0)
    torch.testing.assert_close(theirs, ours.nan_to_num(), rtol=0, atol=1e-9)
