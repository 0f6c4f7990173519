"""What does every head of a model do? `workbench atlas`.

One observe pass over a corpus sample and a small battery of prompts give every score of every head, with and without
attention sinks: HeadVis' six corpus metrics (Luger, Kamath et al. 2026, transformer-circuits.pub/2026/headvis) and ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench.command import Command
from workbench.entering import check_cheaply, entered
from workbench.errors import BadInput
from workbench.model_options import MODEL, BudgetedOptions
from workbench.option_values import at_least

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.atlas_parts.result import HeadAtlas

LEAST_LENGTH = 64


@chz.chz
class Atlas(BudgetedOptions):
    """Options of the atlas."""

    model: str = chz.field(default="llama", doc=MODEL)
    also: str | None = chz.field(default=None, doc="a second model, shown beside the first")
    texts: str | None = chz.field(default=None, doc="your corpus: a text file or a folder of .txt files")
    tokens: int = chz.field(
        default=512, doc="tokens of each corpus text, BOS included where there is one; fewer where the context is short"
    )
    samples: int = chz.field(default=8, doc="corpus texts")
    sequences: int = chz.field(default=4, doc="corpus texts whose top keys are kept, for export in HeadVis' format")
    needles: int = chz.field(default=10, doc="needles of 256 tokens; 0: no retrieval scores")
    repeats: int = chz.field(default=4, doc="texts of repeated random tokens; 0: none")
    ioi: int = chz.field(default=24, doc="IOI prompts, where the tokenizer has the names; 0: none")
    scenes: int = chz.field(default=12, doc="pictures, where the model sees; 0: none")
    circuit: str | None = chz.field(default=None, doc="run of trace-circuit, whose roles become scores")
    bos: bool | None = chz.field(default=None, doc="begin texts with BOS; default: as the tokenizer does")
    seed: int = chz.field(default=0, doc="draws texts and prompts")
    batch: int = chz.field(default=8, doc="texts in one forward")

    @chz.validate
    def _sane(self) -> None:
        if self.samples < 2:
            raise BadInput(f"samples={self.samples}: give at least 2, intervals are over texts")
        at_least(self, tokens=LEAST_LENGTH, sequences=0, needles=0, repeats=0, ioi=0, scenes=0)
        if self.sequences > self.samples:
            raise BadInput(f"sequences={self.sequences}: they are taken from samples={self.samples} corpus texts")


def atlas(model: Model | str | Atlas = "llama", **options: Any) -> HeadAtlas:
    """Every score of every head; writes nothing unless `out=` is given.

    model: a loaded Model, a live TransformerBridge, a name, or a whole Atlas config. options: the fields of Atlas.
    Raises BadInput and ModelError in one line.
    """
    config, loaded = entered(Atlas, model, options)
    check_cheaply(config, loaded)
    _check(config)
    from workbench_analyses.atlas_parts.experiment import run_atlas

    return run_atlas(config, loaded)


def _check(config: Atlas) -> None:
    """What is wrong is said before torch is imported, which takes seconds."""
    from workbench.circuits import read_circuit
    from workbench.sources import locate
    from workbench_analyses.sinks.reading import read_texts

    if config.also:
        locate(config.also, config.trust_remote_code)
    if config.texts:
        read_texts(config.texts)
    if config.circuit:
        read_circuit(config.circuit)


COMMAND = Command("atlas", "every score of every head of a model, on one page", Atlas, atlas)
