"""Times of other tiles of the Triton kernels. Run on a GPU: python tests/benchmarks/triton_tiles.py

Put the best into triton_call.tiles, after a look at its spills: python -m workbench_kernels.triton_compile
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import measure
import torch
from triton_attention import LENGTHS, edits, inputs, ours, statistics, synchronized
from workbench_kernels import Reductions, triton_call

CANDIDATES = [
    (128, 64, 8, 3), (128, 64, 8, 2), (128, 128, 8, 2), (128, 32, 8, 3), (128, 32, 8, 4), (64, 64, 4, 3),
    (64, 128, 4, 2), (64, 64, 4, 4),
]  # fmt: skip
"""Rows, keys, warps, stages."""
REPETITIONS = 9


def tune(n: int) -> Iterator[dict[str, Any]]:
    """Seconds of the forward pass, with the column pass, and with two accumulators."""
    qkv = inputs(1, n, n)
    for kind, want in (("none", Reductions()), ("none", statistics(n, "received")), ("calibrate", Reductions())):
        work = synchronized(partial(ours, *qkv, edits(kind, n, 1.0), want))
        for candidate in CANDIDATES:
            chosen = triton_call.Tiles(*candidate)
            figure: dict[str, Any] = {"n": n, "edit": kind, "received": want.received, "tiles": candidate}
            with patch.object(triton_call, "tiles", lambda *_, chosen=chosen: chosen):
                try:
                    work()  # compiles
                    figure["seconds"] = measure.spread([measure.seconds(work) for _ in range(REPETITIONS)])
                except Exception as error:  # too much shared memory, for one
                    figure["seconds"] = f"{type(error).__name__}: {error}"[:200]
            print(figure, flush=True)
            yield figure


def main() -> None:
    """Measure and keep."""
    if not torch.cuda.is_available():
        sys.exit("triton_tiles: no GPU here; nothing measured")
    before = measure.load()
    with torch.no_grad():
        print(measure.keep("triton_tiles", list(tune(LENGTHS[1])), before))


if __name__ == "__main__":
    main()
