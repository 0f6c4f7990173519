"""What could make the same question give other digits: where and how tensors are computed, for the record of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
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
        "float32_matmul_precision": _told(torch.get_float32_matmul_precision),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }
    if device.type == "cuda":
        out |= {
            "device": torch.cuda.get_device_name(device), "tf32": _told(lambda: backends.cuda.matmul.allow_tf32),
            "cudnn_tf32": _told(lambda: backends.cudnn.allow_tf32), "cudnn_benchmark": backends.cudnn.benchmark,
            "cuda": torch.version.cuda, "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        }  # fmt: skip
        out |= {f"{kind}_reduced": _reduced(kind) for kind in ("bf16", "fp16")}
    if device.type == "cpu":
        out |= {"cpu": backends.cpu.get_cpu_capability(), "mkldnn": backends.mkldnn.is_available()}
    return out | {f"{name}_fp32_precision": how for name, how in _precisions().items()}


def _told(read: Callable[[], Any]) -> Any:
    """An old switch of precision; None where torch refuses to tell it because the new ones (fp32_precision) are in use."""
    try:
        return read()
    except RuntimeError:
        return None


def _reduced(kind: str) -> Any:
    """Whether sums of a matrix product in this type may be kept in it."""
    return _told(lambda: getattr(torch.backends.cuda.matmul, f"allow_{kind}_reduced_precision_reduction"))


def _precisions() -> dict[str, str]:
    """How float32 is multiplied by the new switches, where they are set; all are "none" until somebody sets one."""
    backends: Any = torch.backends
    places = {"all": backends, "cuda_matmul": backends.cuda.matmul, "mkldnn_matmul": backends.mkldnn.matmul}
    return {name: how for name, place in places.items() if (how := place.fp32_precision) != "none"}
