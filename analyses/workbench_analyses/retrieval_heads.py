"""Which heads carry text from far back into the answer? `workbench scan-heads`.

Needles in haystacks find them (Wu et al. 2024, arXiv 2404.15574), masking proves them, the run folder keeps both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import MODEL
from workbench.option_values import ABLATIONS, at_least, either, one_of, percentages
from workbench.spread_options import SpreadOptions

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.retrieval.result import Scan

PROOFS = ("default", "full", "none")
LEAST_LENGTH = 64


@chz.chz
class ScanHeads(SpreadOptions):
    """Options of the scan."""

    ASIDE = (*SpreadOptions.ASIDE, "context")

    model: str = chz.field(default="llama", doc=MODEL)
    context: int = chz.field(default=1024, doc="longest prompt in tokens; a half and a quarter of it are scanned too")
    lengths: tuple[int, ...] | None = chz.field(
        default=None, doc="prompt lengths in tokens, instead of context's three"
    )
    depths: tuple[float, ...] = chz.field(default=(0, 25, 50, 75, 100), doc="needle depths in percent")
    rounds: int = chz.field(default=8, doc="haystacks a length, at most; fresh needles in each")
    until: float | None = chz.field(default=0.95, doc="stop when the list is this stable; none: run the whole grid")
    threshold: float = chz.field(default=0.1, doc="a retrieval head scores at least this")
    needles: str | None = chz.field(default=None, doc="your needles: JSONL with needle, answer, question")
    haystack: str | None = chz.field(default=None, doc="your haystack: a text file or a folder of .txt files")
    template: str = chz.field(default="auto", doc="auto, chat or none")
    proof: str = chz.field(
        default="default", doc="default: masking curves; full: 199 draws, heads kept, reasoning; none"
    )
    ablation: str = chz.field(default="zero", doc=f"how the proof masks: {either((*ABLATIONS, 'window'))}")
    sink: int = chz.field(default=4, doc="first tokens that a windowed head of the proof still sees")
    recent: int = chz.field(default=64, doc="last tokens that a windowed head of the proof still sees")
    seed: int = chz.field(default=0, doc="draws needles, haystacks and controls")
    batch: int = chz.field(default=32, doc="masked variants in one forward")

    @chz.validate
    def _sane(self) -> None:
        if self.lengths is None and self.context < 4 * LEAST_LENGTH:
            raise BadInput(f"context={self.context}: give at least {4 * LEAST_LENGTH} tokens, or lengths=")
        if not self.prompt_lengths or min(self.prompt_lengths) < LEAST_LENGTH:
            raise BadInput(f"lengths={self.lengths}: give prompt lengths of at least {LEAST_LENGTH} tokens")
        percentages("depths", self.depths)
        at_least(self, rounds=1)
        one_of("proof", self.proof, PROOFS)
        one_of("ablation", self.ablation, (*ABLATIONS, "window"))
        if self.sink < 0 or self.recent < 1:
            raise BadInput(f"sink={self.sink}, recent={self.recent}: a window has sink ≥ 0 and recent ≥ 1")
        if self.until is not None and not 0 < self.until <= 1:
            raise BadInput(f"until={self.until}: a stability between 0 and 1, or none")

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """The lengths of the grid."""
        return self.lengths if self.lengths is not None else (self.context // 4, self.context // 2, self.context)

    def question_asked(self) -> dict[str, Any]:
        """Every option that can change a number; the lengths, however they were said."""
        return super().question_asked() | {"lengths": self.prompt_lengths}


def scan(model: Model | str | ScanHeads = "llama", **options: Any) -> Scan:
    """Scan a model for retrieval heads and prove them; writes nothing unless `out=` is given.

    model: a loaded Model, a live TransformerBridge, a name, or a whole ScanHeads config. options: the fields of
    ScanHeads. Raises BadInput and ModelError in one line.
    """
    config, loaded = entered(ScanHeads, model, options)
    _check(config)
    check_cheaply(config, loaded)
    from workbench_analyses.retrieval.scan import run_scan

    return run_scan(config, loaded)


def _check(config: ScanHeads) -> None:
    """What is wrong is said before torch is imported, which takes seconds."""
    from workbench.tasks.needle import read_haystack, read_needles

    if config.needles:
        read_needles(config.needles)
    if config.haystack:
        read_haystack(config.haystack)


COMMAND = Command("scan-heads", "find the retrieval heads of a model, prove them, report", ScanHeads, scan, ())
