"""How far back does every head have to look? `workbench fit-windows`.

The smallest window per key-value head whose output stays within a tolerance, and what the windows cost in the end,
beside the list's cut into full and streaming heads at as many kept entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import BudgetedOptions
from workbench.option_values import at_least, one_of, percentages
from workbench.unasked import named_by
from workbench_analyses.kv_policies import LEAST, QUESTIONS, Simulate, model_of

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.windows.result import FittedWindows

ROWS = ("told", "read")
FIT_SEED = 70_000
"""Added to the seed for the prompts that windows are fitted on: the check asks other needles."""


@chz.chz
class FitWindows(BudgetedOptions):
    """Options of the fit."""

    heads: str | None = chz.field(
        default=None, doc="run folder or score file of the list to compare with; default: needles find it here"
    )
    model: str | None = chz.field(default=None, doc="bundled name, folder or hub id; default: that of heads=, or llama")
    tolerance: float = chz.field(default=0.1, doc="median of |z - z_w| / |z| that a window may cost a head")
    beside: tuple[float, ...] = chz.field(
        default=(0.2, 0.4, 0.6, 0.8), doc="further tolerances, for the curve of what they cost"
    )
    at: tuple[str, ...] = chz.field(
        default=ROWS,
        doc="rows whose median counts: told (of the answer, at the worst depth), read (of the prompt)",
    )
    context: int = chz.field(default=1024, doc="tokens of a prompt, and of the longest window")
    sink: int = chz.field(default=4, doc="first tokens that every head keeps")
    least: int = chz.field(default=16, doc="the smallest window; the others double it")
    prompts: int = chz.field(default=24, doc="needles that windows are fitted on")
    samples: int = chz.field(default=32, doc="other needles that they are checked on")
    texts: int = chz.field(default=8, doc="texts without a needle, for the perplexity; 0: none")
    depths: tuple[float, ...] = chz.field(default=(5, 20, 35, 50, 65, 80), doc="needle depths in percent")
    question: str = chz.field(default="seen", doc="seen: the cache is cut behind the question; after: before it")
    draws: int = chz.field(default=19, doc="draws of the same windows dealt anew within their layers; 0: none")
    haystack: str | None = chz.field(default=None, doc="your haystack: a text file or a folder of .txt files")
    template: str = chz.field(default="auto", doc="auto, chat or none")
    seed: int = chz.field(default=0, doc="draws needles, haystacks and what is dealt anew")
    batch: int = chz.field(default=16, doc="prompts in one forward")

    @chz.validate
    def _sane(self) -> None:
        one_of("question", self.question, QUESTIONS)
        if not self.at or set(self.at) - set(ROWS) or len(set(self.at)) < len(self.at):
            raise BadInput(f"at={','.join(self.at)}: use told, read or both")
        wrong = [t for t in (self.tolerance, *self.beside) if not 0 < t < float("inf")]
        if wrong:
            raise BadInput(f"tolerance {wrong[0]:g}: give shares of a head's output, above 0")
        percentages("depths", self.depths)
        at_least(self, context=LEAST, sink=0, least=1, prompts=2, samples=2, texts=0, draws=0)
        if self.least >= self.context:
            raise BadInput(f"least={self.least} is no smaller than context={self.context}: there is nothing to fit")

    @property
    def tolerances(self) -> tuple[float, ...]:
        """All that are checked, rising."""
        return tuple(sorted({self.tolerance, *self.beside}))

    def checking(self) -> Simulate:
        """The simulation that the windows are checked in."""
        own = {name for name in chz.chz_fields(Simulate) if name in chz.chz_fields(FitWindows)}
        return Simulate(**{name: getattr(self, name) for name in own - {"out"}}, out=None)

    def fitting(self) -> Simulate:
        """The same, for the prompts that windows are fitted on."""
        return chz.replace(self.checking(), samples=self.prompts, texts=0, seed=self.seed + FIT_SEED)


def fit(model: Model | str | FitWindows = "llama", **options: Any) -> FittedWindows:
    """The smallest window of every key-value head, and its price in quality; writes nothing unless `out=` is given.

    model: a loaded Model, a live TransformerBridge, a name, or a whole FitWindows config. options: the fields of
    FitWindows. Raises BadInput and ModelError in one line.
    """
    config, loaded = entered(FitWindows, model, options)
    unsaid = config.model is None
    config = chz.replace(config, model=model_of(config.heads) if unsaid else config.model)
    _check(config)
    with named_by(config.heads if unsaid else None):
        check_cheaply(config, loaded)
        from workbench_analyses.windows.experiment import run_experiment

        return run_experiment(config, loaded)


def _check(config: FitWindows) -> None:
    """What is wrong is said before a model is loaded, which takes seconds."""
    from pathlib import Path

    if config.heads is not None and not Path(config.heads).exists():
        raise BadInput(f"heads={config.heads} does not exist: name a run folder or a score file")


COMMAND = Command(
    "fit-windows", "the smallest window of every head, and what the windows cost", FitWindows, fit, ("heads",)
)
