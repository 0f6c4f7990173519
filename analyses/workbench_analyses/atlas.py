"""What does every head of a model do? `workbench atlas`.

One observe pass over a corpus sample and a small battery of prompts give every score of every head, with and without
attention sinks: HeadVis' six corpus metrics (Luger, Kamath et al. 2026, transformer-circuits.pub/2026/headvis) and ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chz

from workbench import backend_names
from workbench.command import Command
from workbench.entering import asked, check_cheaply, entered
from workbench.errors import BadInput
from workbench.option_values import DTYPES, either, one_of

if TYPE_CHECKING:
    from workbench.models import Model
    from workbench_analyses.atlas_parts.result import HeadAtlas

LEAST_LENGTH = 64


@chz.chz
class Atlas:
    """Options of the atlas; all but out, device and batch can change a number and belong to the question."""

    model: str = chz.field(default="llama", doc="bundled name, local Hugging Face folder or hub id")
    also: str | None = chz.field(default=None, doc="a second model, shown beside the first")
    texts: str | None = chz.field(default=None, doc="your corpus: a text file or a folder of .txt files")
    tokens: int = chz.field(
        default=512, doc="tokens of each corpus text, BOS included; fewer where the context is short"
    )
    samples: int = chz.field(default=8, doc="corpus texts")
    sequences: int = chz.field(default=4, doc="corpus texts whose top keys are kept, for export in HeadVis' format")
    needles: int = chz.field(default=10, doc="needles of 256 tokens; 0: no retrieval scores")
    repeats: int = chz.field(default=4, doc="texts of repeated random tokens; 0: none")
    ioi: int = chz.field(default=24, doc="IOI prompts, where the tokenizer has the names; 0: none")
    scenes: int = chz.field(default=12, doc="pictures, where the model sees; 0: none")
    circuit: str | None = chz.field(default=None, doc="run of trace-circuit, whose roles become scores")
    bos: bool | None = chz.field(default=None, doc="begin texts with BOS; default: where the tokenizer has one")
    seed: int = chz.field(default=0, doc="draws texts and prompts")
    dtype: str = chz.field(default="float32", doc=either(DTYPES))
    device: str | None = chz.field(default=None, doc="cpu, cuda, …; default: cuda where there is one")
    backend: str = chz.field(default="auto", doc=backend_names.DOC)
    trust_remote_code: bool = chz.field(default=False, doc="run code that comes with the model")
    batch: int = chz.field(default=8, doc="texts in one forward")
    out: str | None = chz.field(default="runs", doc="where run folders go; none: write nothing")

    @chz.validate
    def _sane(self) -> None:
        backend_names.checked(self.backend)
        one_of("dtype", self.dtype, DTYPES)
        if self.tokens < LEAST_LENGTH:
            raise BadInput(f"tokens={self.tokens}: give at least {LEAST_LENGTH}")
        if self.samples < 2 or self.batch < 1 or self.seed < 0:
            raise BadInput("samples must be at least 2 (intervals are over texts), batch at least 1, seed at least 0")
        for name in ("sequences", "needles", "repeats", "ioi", "scenes"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name}={getattr(self, name)}: give 0 or more")
        if self.sequences > self.samples:
            raise BadInput(f"sequences={self.sequences}: they are taken from samples={self.samples} corpus texts")

    def question(self) -> dict[str, Any]:
        """Every option that can change a number."""
        return asked(self)


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
