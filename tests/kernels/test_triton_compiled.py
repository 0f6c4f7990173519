"""The Triton kernels compile for sm_90 where there is no GPU, and keep to their registers."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed (pip install 'triton>=3.5')")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter has nothing to compile", allow_module_level=True)

from workbench_kernels.triton_compile import report

SPILLS = 0
"""Bytes a thread may spill, half precision and head dimension 128: none, with the tiles that were chosen."""
KERNELS = {"forward", "received", "weighted", "masses", "thumbnail", "split", "merge"}
DEAREST = ("statistics", "gain, window", "one class, entropy", "four classes", "decode, four classes")


def test_kernels_compile_for_an_h100_and_do_not_spill():
    found = list(report(torch.bfloat16, 128, DEAREST))
    assert {x.kernel for x in found} == KERNELS
    for x in found:
        print(x)
        assert x.spill_stores <= SPILLS, str(x)
        assert x.registers <= 255 and x.shared <= 227 * 1024, str(x)  # of an H100's thread and multiprocessor
