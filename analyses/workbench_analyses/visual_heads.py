"""Which heads see, and which make a model say what is not there? `workbench scan-visual`.

Behaviour first (CHAIR and POPE), then the scores of heads and how far they agree, then whether acting on heads helps more
than trivial means do, at equal recall. Of the bundled `llava` on rendered scenes, or of any model on pictures with COCO's
annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import MODEL, BudgetedOptions
from workbench.option_values import at_least, one_of

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.visual.result import VisualScan

PROOFS = ("default", "none")
UNREADABLE = ("refuse", "skip")
CONTRASTS = ("probability", "absolute", "log")


@chz.chz
class ScanVisual(BudgetedOptions):
    """Options of the scan."""

    model: str = chz.field(default="llava", doc=MODEL)
    images: str | None = chz.field(default=None, doc="folder of pictures; default: rendered scenes")
    coco: str | None = chz.field(default=None, doc="instances_*.json, or the folder of COCO's annotations")
    synonyms: str | None = chz.field(default=None, doc="file of synonyms, a line an object; default: our own table")
    unreadable: str = chz.field(default="refuse", doc="a picture that cannot be read: refuse or skip")
    samples: int = chz.field(default=64, doc="scenes of each kind, or pictures, that heads are scored on")
    choose: int = chz.field(default=40, doc="as many others, on which strengths are chosen")
    report: int = chz.field(default=64, doc="as many others, which are reported")
    longest: int | None = chz.field(default=None, doc="tokens of a caption, at most; default: 48 for scenes, else 256")
    contrast: str = chz.field(default="probability", doc="causal contrast of: probability, absolute or log")
    tau: float | None = chz.field(default=None, doc="phi of a visual sink; default: 20·√(width / 4096)")
    proof: str = chz.field(default="default", doc="interventions against trivial means: default or none")
    seeds: tuple[str, ...] = chz.field(
        default=(), doc="the same model trained from other seeds: names or folders; three in all can show more than one"
    )
    seed: int = chz.field(default=0, doc="draws scenes, or deals pictures to the sets")
    batch: int = chz.field(default=64, doc="pictures in one forward; 1 for models whose pictures differ in parts")

    @chz.validate
    def _sane(self) -> None:
        for name, known in (("proof", PROOFS), ("unreadable", UNREADABLE), ("contrast", CONTRASTS)):
            one_of(name, getattr(self, name), known)
        at_least(self, samples=2, choose=2, report=2, longest=1)
        if self.images is None and (self.coco is not None or self.synonyms is not None):
            raise BadInput("coco= and synonyms= say what is in your pictures: give images=, too")
        if self.tau is not None and self.tau <= 0:
            raise BadInput(f"tau={self.tau:g}: give a number above 0")

    @property
    def most(self) -> int:
        """Tokens of a caption, at most."""
        return self.longest if self.longest is not None else 48 if self.images is None else 256


def scan(model: Model | str | ScanVisual = "llava", **options: Any) -> VisualScan:
    """Score heads for seeing and for inventing, and judge interventions on them at equal recall.

    Writes nothing unless `out=` is given. model: a loaded Model, a live TransformerBridge, a name, or a whole ScanVisual
    config. options: the fields of ScanVisual. Raises BadInput and ModelError in one line.
    """
    config, loaded = entered(ScanVisual, model, options)
    check_cheaply(config, loaded)
    from workbench_analyses.visual.seeing import check_sees

    if loaded is None:
        check_sees(config)
    for other in config.seeds:
        check_sees(chz.replace(config, model=other))
    from workbench_analyses.visual.scan import run_scan

    return run_scan(config, loaded)


COMMAND = Command(
    "scan-visual", "find heads that see and heads that invent, judge acting on them, report", ScanVisual, scan
)
