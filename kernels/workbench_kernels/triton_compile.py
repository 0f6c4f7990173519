"""Compile every kernel for an H100 (sm_90) without a GPU and say what it takes: python -m workbench_kernels.triton_compile

A request is put to the backend as usual, but its launches are recorded and compiled instead of started. Registers and
spills are those that ptxas states; a spill is memory that a thread needs because its registers do not suffice.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from workbench_kernels import triton_launch
from workbench_kernels.triton_attend import attend
from workbench_kernels.triton_call import INTERPRETED
from workbench_kernels.types import AttentionSpec, HeadEdits, Reductions

ARCH = 90
TARGET = GPUTarget("cuda", ARCH, 32)
TYPES = {
    torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int32: "*i32", torch.int8: "*i8",
    torch.int64: "*i64",
}  # fmt: skip


@dataclass(frozen=True)
class Usage:
    """What a kernel takes of a multiprocessor, a thread or a program."""

    request: str
    kernel: str
    registers: int
    spill_stores: int
    spill_loads: int
    shared: int

    def __str__(self) -> str:
        return (
            f"{self.request:<28} {self.kernel:<12} {self.registers:>4} registers  "
            f"{self.spill_stores:>5} / {self.spill_loads:<5} bytes spilled / loaded  {self.shared // 1024:>4} KiB shared"
        )


Launch = tuple[Any, dict[str, Any], dict[str, Any]]


def record(*request: Any) -> list[Launch]:
    """The kernels that a request starts, with their arguments and options."""
    found: list[Launch] = []

    def keep(kernel: Any, _: tuple[int, ...], arguments: dict[str, Any], options: dict[str, Any]) -> None:
        found.append((kernel, arguments, options))

    with patch.object(triton_launch, "launch", keep):
        attend(*request)
    return found


def source(kernel: Any, given: dict[str, Any]) -> ASTSource:
    """What Triton itself would compile for these arguments: None and 1 are constants, multiples of 16 are marked."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for i, parameter in enumerate(kernel.params):
        name, value = parameter.name, given[parameter.name]
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[name], attributes[(i,)] = TYPES[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32"
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)


def usage(request: str, launched: Launch) -> Usage:
    """Compile one launch."""
    assert not INTERPRETED, "the interpreter has nothing to compile"
    kernel, arguments, options = launched
    compiled = triton.compile(source(kernel, arguments), target=TARGET, options=options)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(compiled.asm["ptx"])
        how = ["-v", "-lineinfo", "--regAllocOptLevel=2", "--gpu-name=sm_90a"]  # as Triton itself calls it
        command = [get_ptxas(ARCH).path, *how, str(file), "-o", str(file) + ".out"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr

    def number(pattern: str) -> int:
        found = re.search(pattern, said)
        assert found, said
        return int(found.group(1))

    return Usage(
        request, kernel.__name__, number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes spill loads"), compiled.metadata.shared,
    )  # fmt: skip


def requests(dtype: torch.dtype, width: int = 128) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Requests that between them start every kernel in its dearest and its usual form."""
    b, h, n = 1, 4, 2048
    q, k, v = (torch.zeros(b, x, n, width, dtype=dtype) for x in (h, 1, 1))
    spec = AttentionSpec(scale=width**-0.5)
    padded = AttentionSpec(scale=width**-0.5, padding=torch.ones(b, n, dtype=torch.bool))
    key_class = torch.zeros(1, 1, n, dtype=torch.long)
    freed, one = torch.ones(1, h), torch.zeros(1, h, 1)
    act = HeadEdits(key_class=key_class, class_gain=one, freed=freed)
    several = HeadEdits(key_class=key_class, class_gain=torch.zeros(1, h, 4), freed=freed)
    window = HeadEdits(window=torch.full((1, h), 256), gain=torch.zeros(1, h))
    every = Reductions(received=True, entropy=True, thumbnail=64, spans=torch.zeros(b, 4, 2, dtype=torch.long))
    tag = f"{str(dtype).removeprefix('torch.')} {width} "
    yield tag + "plain", (q, k, v, spec)
    yield tag + "statistics", (q, k, v, padded, None, every)
    yield tag + "gain, window", (q, k, v, spec, window)
    yield tag + "one class", (q, k, v, spec, act, Reductions(received=True))
    yield tag + "one class, entropy", (q, k, v, padded, act, Reductions(entropy=True))
    yield tag + "four classes", (q, k, v, spec, several, Reductions(received=True))
    step = AttentionSpec(scale=width**-0.5, q_offset=n - 1)
    yield tag + "decode", (q[:, :, :1], k, v, step)
    yield tag + "decode, four classes", (q[:, :, :1], k, v, step, several)


def report(dtype: torch.dtype, width: int = 128, ends: tuple[str, ...] = ("",)) -> Iterator[Usage]:
    """Usage of every kernel of the requests with such an end to their name; a launch that was seen is not repeated."""
    seen: set[str] = set()
    for name, request in requests(dtype, width):
        for launched in record(*request) if name.endswith(ends) else ():
            kernel, arguments, options = launched
            key = f"{kernel.__name__} {source(kernel, arguments).hash()} {options}"
            if key not in seen:
                seen.add(key)
                yield usage(name, launched)


def main() -> None:
    """Print the table."""
    for dtype, width in ((torch.bfloat16, 128), (torch.bfloat16, 64), (torch.bfloat16, 256), (torch.float32, 128)):
        for line in report(dtype, width):
            print(line, flush=True)


if __name__ == "__main__":
    main()
