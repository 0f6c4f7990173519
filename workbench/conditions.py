"""What could make the same question give other digits: where and how tensors are computed, for the record of a run."""

from __future__ import annotations

import os
from typing import Any

import torch


def conditions(model: Any) -> dict[str, Any]:
    """JSON-able facts: type and device of the weights, threads, and the switches of torch that decide rounding.

    The backend and the versions of libraries stand beside them in run.json.
    """
    device, backends = model.device, torch.backends
    out: dict[str, Any] = {
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }
    if device.type == "cuda":
        out |= {
            "device": torch.cuda.get_device_name(device), "tf32": backends.cuda.matmul.allow_tf32,
            "cudnn_tf32": backends.cudnn.allow_tf32, "cudnn_benchmark": backends.cudnn.benchmark, "cuda": torch.version.cuda,
            "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        }  # fmt: skip
    if device.type == "cpu":
        out |= {"cpu": backends.cpu.get_cpu_capability(), "mkldnn": backends.mkldnn.is_available()}
    return out
