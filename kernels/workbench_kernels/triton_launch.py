"""The one place where kernels are started, so that the same requests can be compiled where there is no GPU."""

from __future__ import annotations

from typing import Any


def launch(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], options: dict[str, Any]) -> None:
    """Start a kernel; `triton_compile.record` takes this function's place."""
    kernel[grid](**arguments, **options)
