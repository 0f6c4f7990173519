"""Which heads does a task run through, and what do they tell one another? `workbench trace-circuit`.

Exact path patching from the logits down: movers, what tells them where to look, what tells that, with the evidence for
each head's role (Wang et al. 2022, arXiv 2211.00593; Merullo et al. 2023, arXiv 2310.08744), and an ablation column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import MODEL, MemoryOptions
from workbench.option_values import MISFITS, OUTSIDE, at_least, either, one_of

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.circuits.result import Trace

MLPS = ("live", "frozen")
QUALITY = ("default", "none")
LEAST = 16
KEYS = ("gpt2-ioi",)


@chz.chz
class TraceCircuit(MemoryOptions):
    """Options of the trace."""

    ASIDE = (*MemoryOptions.ASIDE, "key")

    model: str = chz.field(default="gpt2", doc=MODEL)
    task: str = chz.field(default="ioi", doc="ioi, colored-objects, greater-than or induction")
    corruption: str | None = chz.field(default=None, doc="what the corrupted prompts change; default: the task's first")
    samples: int = chz.field(default=100, doc="pairs of prompts")
    explore: int = chz.field(default=32, doc="pairs on which the next channel and position are chosen")
    tau: float = chz.field(default=0.02, doc="share of the gap that a head's lower 95 % bound must exceed")
    follow: float = chz.field(default=0.5, doc="channels and positions followed: this share of the largest, or more")
    screen: bool = chz.field(
        default=True, doc="ask heads one by one only where all of the corrupted run together changes a quarter of tau"
    )
    depth: int = chz.field(default=4, doc="stages at most, counted from the logits")
    mlps: str = chz.field(default="live", doc="MLPs between sender and receiver: live or frozen")
    edges: bool = chz.field(default=True, doc="ask every receiver by itself: who tells it?")
    ablation: str = chz.field(default="resample", doc=f"what heads outside a circuit give: {either(OUTSIDE)}")
    quality: str = chz.field(default="default", doc="faithfulness, completeness, minimality, curves: default or none")
    key: str | None = chz.field(default=None, doc="published circuit to compare with: gpt2-ioi")
    names: tuple[str, ...] | None = chz.field(default=None, doc="ioi: names instead of the published 99")
    folder: str | None = chz.field(default=None, doc="ioi: folder with templates and words in MIB's form")
    misfits: str = chz.field(default="replace", doc=f"words that are not one token: {either(MISFITS)}")
    force: bool = chz.field(default=False, doc="go on where the model cannot do the task")
    bos: bool | None = chz.field(default=None, doc="begin prompts with BOS; default: as the tokenizer does")
    seed: int = chz.field(default=0, doc="draws prompts, resamples and controls")
    batch: int = chz.field(default=50, doc="prompts at a time")

    @chz.validate
    def _sane(self) -> None:
        for name, known in (("mlps", MLPS), ("misfits", MISFITS), ("ablation", OUTSIDE), ("quality", QUALITY)):
            one_of(name, getattr(self, name), known)
        if self.key is not None and self.key not in KEYS:
            raise BadInput(f"key={self.key}: published circuits are {', '.join(KEYS)}")
        if self.samples < LEAST:
            raise BadInput(f"samples={self.samples}: give at least {LEAST}, of which intervals are made")
        at_least(self, explore=2, depth=1)
        if not 0 < self.tau < 1 or not 0 < self.follow <= 1:
            raise BadInput(f"tau={self.tau:g}, follow={self.follow:g}: shares above 0, tau below 1, follow at most 1")
        if self.task != "ioi" and (self.names is not None or self.folder is not None):
            raise BadInput(f"names= and folder= are for task=ioi, not for task={self.task}")


def trace(model: Model | str | TraceCircuit = "gpt2", **options: Any) -> Trace:
    """Trace the circuit of a task; writes nothing unless `out=` is given.

    model: a loaded Model, a live TransformerBridge, a name, or a whole TraceCircuit config. options: the fields of
    TraceCircuit. Raises BadInput and ModelError in one line, also where the model cannot do the task.
    """
    config, loaded = entered(TraceCircuit, model, options)
    _check(config)
    check_cheaply(config, loaded)
    from workbench_analyses.circuits.experiment import run_trace

    return run_trace(config, loaded)


def _check(config: TraceCircuit) -> None:
    """What is wrong is said before torch is imported, which takes seconds."""
    from workbench.tasks.circuit_prompts import checked_corruption, circuit_task

    task = circuit_task(config.task)
    if config.corruption is not None:
        checked_corruption(config.corruption, task.corruptions)


COMMAND = Command(
    "trace-circuit", "trace the heads that a task runs through, with their roles and edges", TraceCircuit, trace
)
