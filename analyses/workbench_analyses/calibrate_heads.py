"""Does calibrating a head's sinks mend answers? `workbench calibrate`.

Every head alone on one half of a task's samples, the list of those that help, or a given one, on the other half (ACT,
Yu et al. 2024, arXiv 2406.15765, with the controls that it lacks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import MODEL
from workbench.option_values import RECEIVERS, SINK_RULES, either, one_of
from workbench.spread_options import SpreadOptions

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.calibration.result import Calibration

SCORES = ("full", "first")
TIMES = 5.0
"""What a is unless given: the paper's choice."""
LEAST = 40


@chz.chz
class CalibrateHeads(SpreadOptions):
    """Options of the experiment."""

    model: str = chz.field(default="llama", doc=MODEL)
    task: str = chz.field(default="needle-choice", doc="needle-choice, yes-no, or JSONL of prompt, choices, answer")
    heads: str | None = chz.field(default=None, doc="a file with a list: it is judged, no head is selected")
    samples: int = chz.field(default=1000, doc="samples, at most; half selects heads, half judges the list")
    beta: float = chz.field(default=0.4, doc="share of its weight that a sink keeps")
    rule: str = chz.field(default="corrected", doc=f"how sinks are found: {either(SINK_RULES)}")
    a: float = chz.field(default=TIMES, doc="a sink gets more than a times its share")
    absolute: float | None = chz.field(default=None, doc="instead of a: received attention above this number")
    exempt: tuple[int, ...] = chz.field(default=(0,), doc="tokens that are no sinks, counted from the first")
    receivers: str = chz.field(default="others", doc="who gets the freed weight: others, or all (also exempt tokens)")
    layers: tuple[int, ...] | None = chz.field(
        default=None, doc="layers tried; default: not the first two of 32, nor the last"
    )
    score: str = chz.field(default="full", doc="log-probability of full choices, or of their first tokens")
    per_token: bool = chz.field(default=False, doc="divide the log-probability of a choice by its tokens")
    level: float = chz.field(default=0.05, doc="false discovery rate among the heads")
    draws: int = chz.field(default=20, doc="random lists, layer by layer of the same size")
    template: str = chz.field(default="auto", doc="auto, chat or none")
    seed: int = chz.field(default=0, doc="draws samples, halves, tosses and controls")
    batch: int = chz.field(default=32, doc="rows in one forward")

    @chz.validate
    def _sane(self) -> None:
        for name, known in (("rule", SINK_RULES), ("receivers", RECEIVERS), ("score", SCORES)):
            one_of(name, getattr(self, name), known)
        if self.samples < LEAST:
            raise BadInput(f"samples={self.samples}: give at least {LEAST}, of which half select and half judge")
        if not 0 <= self.beta < 1:
            raise BadInput(f"beta={self.beta}: a share from 0 to below 1; 1 changes nothing")
        if self.a <= 1:
            raise BadInput(f"a={self.a}: a sink gets more than its share; give more than 1")
        if self.absolute is not None and self.a != TIMES:
            raise BadInput("a= and absolute= are two rules: give one of them")
        if self.absolute is not None and not 0 < self.absolute < 1:
            raise BadInput(f"absolute={self.absolute}: an attention between 0 and 1")
        if any(e < 0 for e in self.exempt):
            raise BadInput(f"exempt={list(self.exempt)}: tokens are counted from 0")
        if self.layers is not None and not self.layers:
            raise BadInput("layers: no layer is given; leave the option out for the paper's choice")
        if not 0 < self.level < 1:
            raise BadInput(f"level={self.level}: a rate between 0 and 1")
        if self.draws < 19:
            raise BadInput(f"draws={self.draws}: fewer than 19 random lists can give no p of .05")


def calibrate(model: Model | str | CalibrateHeads = "llama", **options: Any) -> Calibration:
    """Calibrate every head alone, then the list of those that help, or only a list that is given in a file (`heads=`).

    Writes nothing unless `out=` is given.

    model: a loaded Model, a live TransformerBridge, a name, or a whole CalibrateHeads config. options: the fields of
    CalibrateHeads. Raises BadInput and ModelError in one line.
    """
    config, loaded = entered(CalibrateHeads, model, options)
    _check(config)
    check_cheaply(config, loaded)
    from workbench_analyses.calibration.experiment import run_experiment

    return run_experiment(config, loaded)


def _check(config: CalibrateHeads) -> None:
    """What is wrong is said before torch is imported, which takes seconds."""
    from workbench.head_lists import read_heads
    from workbench.tasks.choices import check_task

    check_task(config.task)
    if config.heads:
        read_heads(config.heads)


COMMAND = Command(
    "calibrate",
    "calibrate each head's sinks on a task, judge the list of those that help",
    CalibrateHeads,
    calibrate,
    (),
)
