"""Where should a list of heads be cut? `workbench choose-cut RUN`.

Recall is measured with more and more of the best heads full and all others streaming; a page shows each cut's price, what
it is expected to tell, and the file that it makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import BudgetedOptions
from workbench.option_values import at_least, either, one_of
from workbench.policies import PREFILLS
from workbench.unasked import named_by
from workbench_analyses.kv_policies import model_of

if TYPE_CHECKING:
    from workbench.heads import HeadScores
    from workbench.models import Model
    from workbench_analyses.cuts.result import Cuts


@chz.chz
class ChooseCut(BudgetedOptions):
    """Options of the curve of cuts."""

    run: str | None = chz.field(default=None, doc="run folder or score file with the list")
    model: str | None = chz.field(default=None, doc="bundled name, folder or hub id; default: that of RUN, or llama")
    sink_size: int | None = chz.field(default=None, doc="first tokens that streaming heads keep; default: as export")
    recent_size: int | None = chz.field(default=None, doc="last tokens that streaming heads keep; default: as export")
    context: int = chz.field(default=1024, doc="tokens of a needle's prompt")
    served: int = chz.field(default=32_768, doc="tokens at which the cost is told first; the page takes others")
    samples: int = chz.field(default=64, doc="needles outside the window, the same for every cut")
    prefill: str = chz.field(
        default="full", doc=f"how streaming heads read the prompt: {either(PREFILLS)} (then the cache is cut)"
    )
    chunk: int = chz.field(default=256, doc="tokens of a chunk, where the prompt is read by chunks")
    seed: int = chz.field(default=0, doc="draws needles and haystacks")
    batch: int = chz.field(default=16, doc="prompts in one forward")

    @chz.validate
    def _sane(self) -> None:
        one_of("prefill", self.prefill, PREFILLS)
        at_least(self, sink_size=0, recent_size=1, context=64, served=1, samples=2, chunk=1)


def choose(scores: HeadScores | str | ChooseCut, model: Model | str | None = None, **options: Any) -> Cuts:
    """What every cut of a list costs and still tells; writes nothing unless `out=` is given.

    scores: HeadScores, a run folder or score file, or a whole ChooseCut config. model: a loaded Model, a live
    TransformerBridge or a name; default: that of the run. options: the fields of ChooseCut. Raises BadInput and ModelError
    in one line.
    """
    given, unsaid = None, model is None
    if isinstance(scores, ChooseCut):
        config, loaded = entered(ChooseCut, scores, options)
        unsaid = config.model is None
    else:
        given = None if isinstance(scores, str) else scores
        options = {**options, "run": None if given is not None else scores}
        config, loaded = entered(ChooseCut, model_of(options["run"]) if model is None else model, options)
    config = chz.replace(config, model=model_of(config.run) if config.model is None else config.model)
    if given is None:
        _check(config)
    with named_by(config.run if unsaid else None):
        check_cheaply(config, loaded)
        from workbench_analyses.cuts.experiment import run_experiment

        return run_experiment(config, loaded, given)


def _check(config: ChooseCut) -> None:
    """What is wrong is said before a model is loaded, which takes seconds."""
    from pathlib import Path

    if config.run is None:
        raise BadInput("choose-cut needs a list: name a run folder or a score file")
    if not Path(config.run).exists():
        raise BadInput(f"{config.run} does not exist: name a run folder or a score file")


COMMAND = Command("choose-cut", "what every cut of a list costs and tells, with a slider", ChooseCut, choose, ("run",))
