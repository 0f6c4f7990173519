"""Commands with run folders, small, in forked processes: modules and models are loaded once."""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from struck_runs import Struck

from workbench import jobs
from workbench.cli import main
from workbench.runs import Run, Work
from workbench.simulation import decoding

WORDS = {
    "scan-heads": "model=planted-copy lengths=96, depths=0,50 rounds=6 until=none proof=none",
    "scan-sinks": "model=planted-sink tokens=64 samples=2 epsilon_tokens=32 check_tokens=64 recent=24 proof=none",
    "calibrate": "model=planted-calibrate task=task.jsonl samples=40 draws=19 layers=1,",
    "trace-circuit": "model=planted-ioi samples=16 explore=4 batch=8 quality=none edges=false depth=1",
    "simulate": "model=planted-copy context=128 samples=2 texts=1 tasks=none depths=50, draws=1 policy=duo,snapkv "
    "budgets=0.3, published=false",
    "atlas": "model=planted-copy tokens=64 samples=2 sequences=1 needles=0 repeats=2 ioi=0",
    "scan-visual": "model=llava samples=2 choose=2 report=2 longest=4 proof=none",
    "fit-windows": "model=planted-copy context=128 prompts=2 samples=2 texts=0 depths=50, draws=0 beside=0.4,",
}
TASK = "".join(
    json.dumps({"prompt": f"the {a} . the {b} . " * 6, "choices": ["yes", "no"], "answer": i % 2}) + "\n"
    for i, (a, b) in enumerate(itertools.product(("dog", "cat", "man", "sun", "box"), ("tree", "lake", "bird", "road")))
    for _ in range(2)
)
"""Questions of calibrate, shorter than its own."""


class Typed(Struck):
    """A command that is typed in `home`."""

    def __init__(self, name: str, home: Path) -> None:
        super().__init__(home)
        self.words = [name, *WORDS[name].split()]
        (home / "task.jsonl").write_text(TASK)

    def answer(self) -> int:
        os.chdir(self.home)
        torch.set_num_threads(1)  # a forked process has no threads of its parent
        sys.stdout = sys.stderr = (self.home / "said").open("a", buffering=1)
        return main(self.words)


@contextmanager
def warm() -> Iterator[None]:
    """Inside, models are loaded once, time and memory cost the same always, and units that are begun are noted."""
    remember, ticks = Run.remember, itertools.count()

    def noted(self: Run, unit: str, work: Work) -> Any:
        def begun() -> Any:
            with (self.path.parents[1] / "begun").open("a") as log:
                log.write(f"{unit}\n")
            return work()

        return remember(self, unit, begun)

    def cost(self: Any, **parts: float) -> Mapping[str, float]:
        return dict.fromkeys((*parts, "seconds", "peak_memory_mib", "unit_seconds"), 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "load", functools.cache(jobs.load))
        patch.setattr(jobs.Job, "cost", cost)
        patch.setattr(Run, "remember", noted)
        patch.setattr(decoding, "time", SimpleNamespace(process_time=lambda: next(ticks), perf_counter=None))
        yield
