"""What `device=` says of where weights lie."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.errors import BadInput, ModelError
from workbench.placing import Placement, placement


@pytest.mark.parametrize("device", [None, "cpu", "cuda", "cuda:1", "mps", "meta", "quantum", "gpus", "automatic"])
def test_one_device_is_left_to_torch(device):
    assert placement(device) == Placement(device) and not placement(device).spread and placement(device).options() == {}


def test_several_gpus():
    assert placement("gpus:4").options() == {"n_devices": 4} and placement("gpus:4").spread


def test_one_gpu_is_that_gpu_and_never_quietly_the_processor():
    assert placement("gpus:1") == Placement("cuda:0")


def test_limits():
    found = placement("auto:0=20GB,1=500MiB,cpu=1e6,disk=/some/where")
    assert found.options() == {
        "device_map": "auto", "max_memory": {0: 20 * 10**9, 1: 500 * 2**20, "cpu": 10**6}, "offload_folder": "/some/where",
    }  # fmt: skip
    assert placement("balanced").options() == {"device_map": "balanced"} and found.spread


@pytest.mark.parametrize("limits", ["cpu", "cpu=", "cpu=much", "gpu0=1GB", "disk=", "0=-1GB", "cpu=8GB;disk=x"])
def test_what_is_no_limit_is_told(limits):
    with pytest.raises(BadInput):
        placement(f"auto:{limits}")


def test_what_cannot_be_spread_here_is_told_in_a_line():
    with pytest.raises(ModelError, match="device=cpu or cuda"):
        wb.load("planted-copy", device="auto")
    with pytest.raises(ModelError, match="requires CUDA"):
        wb.load("llama", device="gpus:2")
