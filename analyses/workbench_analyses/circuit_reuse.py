"""Do two circuits use the same heads, for the same, beyond chance? `workbench compare RUN RUN` on runs of trace-circuit.

The reuse of circuits across tasks (Merullo et al. 2023, arXiv 2310.08744) with what its 78 % lacks: null, intervals,
thresholds, roles, and whether one task's circuit does the other. Two models of one shape (checkpoints) compare as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import chz

from workbench.command import RunKind
from workbench.errors import BadInput
from workbench.option_values import OUTSIDE, either, one_of

if TYPE_CHECKING:
    from workbench.circuits import Circuit
    from workbench.models import Model
    from workbench_analyses.circuits.result import Trace
    from workbench_analyses.circuits.reuse_result import Reuse

FEWEST_DRAWS = 99


@chz.chz
class CircuitReuse:
    """Options of the comparison; all but out, device, trust_remote_code and memory can change a number."""

    draws: int = chz.field(default=10_000, doc="shuffles within layers, for ranks and edges; head sets are exact")
    resamples: int = chz.field(default=1000, doc="bootstrap samples of the prompts")
    halvings: int = chz.field(default=100, doc="random halvings of the prompts, for the ceiling")
    transfer: bool = chz.field(default=True, doc="run each circuit on the other's prompts; loads the models")
    samples: int = chz.field(default=50, doc="prompts of each task for that, others than those of the trace")
    controls: int = chz.field(default=99, doc="random circuits with as many heads in each layer")
    ablation: str = chz.field(default="resample", doc=f"what heads outside a circuit give: {either(OUTSIDE)}")
    seed: int = chz.field(default=0, doc="draws shuffles, resamples, prompts and controls")
    device: str | None = chz.field(default=None, doc="cpu, cuda, …; default: cuda where there is one")
    memory: str = chz.field(default="500MB", doc="bytes that head sets at work may take")
    trust_remote_code: bool = chz.field(default=False, doc="run code that comes with the models")
    out: str | None = chz.field(default=None, doc="folder for report.html and reuse.json; none: write nothing")

    @chz.validate
    def _sane(self) -> None:
        from workbench.sizes import bytes_of

        one_of("ablation", self.ablation, OUTSIDE)
        for name in ("draws", "resamples"):
            if getattr(self, name) < FEWEST_DRAWS:
                raise BadInput(f"{name}={getattr(self, name)}: give at least {FEWEST_DRAWS}")
        if self.halvings < 1 or self.samples < 2 or self.controls < 0 or self.seed < 0:
            raise BadInput("halvings must be at least 1, samples at least 2, controls and seed at least 0")
        bytes_of(self.memory, "memory")


def reuse(
    a: Trace | Circuit | str | Path,
    b: Trace | Circuit | str | Path,
    models: Model | tuple[Model, Model] | None = None,
    **options: Any,
) -> Reuse:
    """Compare two circuits: run folders of trace-circuit, circuit files, traces or circuits; writes only to `out=`.

    models: loaded, of both or one each; None: by the names in the runs. options: the fields of CircuitReuse. Circuits
    that come by themselves have no effects prompt by prompt, so no intervals and no ceiling. Raises BadInput and
    ModelError in one line.
    """
    from workbench.atomic import check_writable

    config = CircuitReuse(**options)
    if config.out:
        check_writable(config.out)
    from workbench_analyses.circuits.reuse_experiment import run_reuse

    return run_reuse(config, a, b, models)


COMPARE = RunKind("circuit.json", "a circuit of trace-circuit", reuse, CircuitReuse)
