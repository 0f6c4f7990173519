"""What a budget of memory counts of probes that make less of what they ask: one layer, not all, a row at a time."""

from __future__ import annotations

import pytest
import tiny_models
import torch

import workbench as wb
from workbench import probes
from workbench.errors import TooLarge
from workbench.footprint import forward_bytes
from workbench.observation import observe

N = 64
ONE = 4 * N * 40 * 8
"""Bytes of the weights of all queries on forty keys, in eight heads of one layer of one row."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return wb.load(tiny_models.save("llama", tmp_path_factory.mktemp("llama")))


def tokens(b):
    return torch.randint(3, 97, (b, N), generator=torch.Generator().manual_seed(b))


REDUCING = {
    "held": lambda: probes.held([[i + j for j in range(40)] for i in range(6)]),
    "region": lambda: probes.region((0, N), (0, N - 4), 8),
    "strongest": lambda: probes.strongest((0, N), (5, 18), 13),
    "mean": lambda: probes.mass([(j, j + 1) for j in range(40)], reduce="mean"),
}


@pytest.mark.parametrize("name", REDUCING)
def test_one_layer_of_one_row_is_room_enough(name, llama, narrow):
    """A third of what all layers of the six rows would take."""
    x, probe = tokens(6), REDUCING[name]()
    whole, went = observe(llama, x, [probe]), narrow(llama, 99)
    budget = forward_bytes(llama, N) + 4 * ONE
    parts = observe(llama, x, [probe], memory=budget)
    assert len(went) > 1 and sum(went) == 6 and budget - forward_bytes(llama, N) < 3 * 6 * ONE / 3
    found, wanted = parts[probe.name], whole[probe.name]
    torch.testing.assert_close(found, wanted, rtol=2e-6, atol=2e-6)
    with pytest.raises(TooLarge, match="for one row, more than|choose rows"):
        observe(llama, x, [probe], memory=forward_bytes(llama, N) + ONE // 8)


def test_what_is_kept_is_counted_of_all_layers(llama):
    x = tokens(6)
    for probe in (
        probes.mass([(j, j + 1) for j in range(40)]),
        probes.region((0, 40), (0, 40), 40),
        probes.top_keys(13),
    ):
        with pytest.raises(TooLarge):
            observe(llama, x, [probe], memory=forward_bytes(llama, N) + 4 * ONE)


def test_a_batch_that_stays_together_needs_room_for_all_its_rows(llama):
    x, probe = tokens(6), REDUCING["held"]()
    with wb.intervene(llama, wb.mask([(1, 2)])):
        with pytest.raises(TooLarge):
            observe(llama, x, [probe], memory=forward_bytes(llama, N) + 4 * ONE)
        observe(llama, x, [probe], memory=6 * (forward_bytes(llama, N) + 2 * ONE))
