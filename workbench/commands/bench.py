"""`workbench bench`: what attention with statistics and edits costs on this machine, against its peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import chz

from workbench.command import Command
from workbench.errors import BadInput
from workbench.option_values import at_most


@chz.chz
class Bench:
    """Lengths and repetitions; the defaults take about two minutes on two cores."""

    lengths: tuple[int, ...] = chz.field(default=(2048, 4096), doc="tokens")
    repetitions: int = chz.field(default=5, doc="pairs of runs behind each ratio, at least 5")
    out: str | None = chz.field(default=None, doc="JSON file to write")

    @chz.validate
    def _sane(self) -> None:
        if not self.lengths or min(self.lengths) < 1024:
            raise BadInput(f"lengths={self.lengths}: give lengths of at least 1,024 tokens")
        if self.repetitions < 5:
            raise BadInput(f"repetitions={self.repetitions}: a ratio needs at least 5")
        at_most(self)


@dataclass(frozen=True)
class Benched:
    """The rows of the table, and the machine."""

    rows: list[dict[str, Any]]
    machine: dict[str, Any]

    def __rich__(self) -> Any:
        """The table in the terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for name in ("tokens", "work", "peer", "cost", "goal", "met"):
            table.add_column(name, justify="left" if name in ("work", "peer") else "right")
        for row in self.rows:
            faster = row["peer"] == "eager"
            goal = "–" if row["target"] is None else f"{'≥' if faster else '≤'} {row['target']:g}×"
            cost = f"{row['times']:.2f}×" + (" faster" if faster else "")
            met = {None: "", True: "yes", False: "no"}[row["met"]]
            table.add_row(f"{row['tokens']:,}", row["work"], row["peer"], cost, goal, met)
        about = ", ".join(f"{k} {v}" for k, v in self.machine.items())
        return Group(
            table, Text("Medians of paired runs; attention of 4 layers × 8 heads × 64, GQA 4:1, float32."), Text(about)
        )

    def summary(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"machine": self.machine, "rows": self.rows}


def run(config: Bench) -> Benched:
    """Time everything; writes JSON where `out` is given."""
    import os
    import platform
    from pathlib import Path

    import torch
    from workbench_kernels.benchmark import table, works

    from workbench import atomic
    from workbench.jsonable import dumps
    from workbench.progress import progress
    from workbench.versions import versions

    if config.out:
        atomic.check_writable(Path(config.out).absolute().parent)
    rows: list[dict[str, Any]] = []
    with progress() as stages:
        report = stages.stage("bench")
        for n in config.lengths:
            for row in table(n, config.repetitions):
                rows.append(row)
                report(len(rows), len(config.lengths) * len(works(n)))
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **versions(),
    }
    done = Benched(rows, machine)
    if config.out:
        atomic.make_folders(Path(config.out).absolute().parent)
        atomic.write_bytes(Path(config.out), dumps(done.summary(), indent=1).encode() + b"\n")
    return done


COMMAND = Command("bench", "cost of statistics and edits on this machine, against SDPA and eager attention", Bench, run)
