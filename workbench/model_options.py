"""The options of every command that computes on a model: each, with its help and its check, stands here once.

A new command says `class ItsConfig(AttendingOptions)`, adds its own options and says what `seed` draws and what a `batch`
holds. An option for all of them is a field here, its place in `LAST`, and its name in CALM where it changes no number.
"""

from __future__ import annotations

from typing import Any, ClassVar

import chz

from workbench import backend_names, placing
from workbench.option_values import CALM, DTYPES, MOST_DRAWS, at_least, at_most, either, one_of
from workbench.sizes import bytes_of

MODEL = "bundled name, local Hugging Face folder or hub id"


@chz.chz
class ModelOptions:
    """What every command on a model takes.

    LAST: their order behind a command's own options. ASIDE: options that change no number.
    """

    LAST: ClassVar[tuple[str, ...]] = (
        "seed", "dtype", "device", "backend", "trust_remote_code", "batch", "memory", "out",
    )  # fmt: skip
    ASIDE: ClassVar[tuple[str, ...]] = CALM

    seed: int = chz.field(default=0, doc="draws whatever is random")
    dtype: str = chz.field(default="float32", doc=either(DTYPES))
    device: str | None = chz.field(default=None, doc=placing.DOC)
    trust_remote_code: bool = chz.field(default=False, doc="run code that comes with the model")
    batch: int = chz.field(default=32, doc="rows in one forward")
    out: str | None = chz.field(default="runs", doc="where run folders go; none: write nothing")

    @chz.validate
    def _shared_sane(self) -> None:
        one_of("dtype", self.dtype, DTYPES)
        at_least(self, batch=1, seed=0)
        at_most(self, draws=MOST_DRAWS)

    def question_asked(self) -> dict[str, Any]:
        """The run's question: every option that can change a number; a backend that nobody chose is left out."""
        values = chz.asdict(self)
        said = {name: values[name] for name in fields_of(type(self)) if name not in self.ASIDE}
        return {name: value for name, value in said.items() if (name, value) != backend_names.UNSAID}


@chz.chz
class AttendingOptions(ModelOptions):
    """Those of commands whose attention any backend can compute."""

    backend: str = chz.field(default="auto", doc=backend_names.DOC)

    @chz.validate
    def _backend_known(self) -> None:
        backend_names.checked(self.backend)


@chz.chz
class MemoryOptions(ModelOptions):
    """Those of commands whose work keeps to a budget of memory (`workbench.budget`)."""

    memory: str | None = chz.field(
        default=None, doc="bytes that work may take beside the weights, as 2GB; default: what batch takes"
    )

    @chz.validate
    def _memory_sane(self) -> None:
        if self.memory is not None:
            bytes_of(self.memory)


@chz.chz
class BudgetedOptions(AttendingOptions, MemoryOptions):
    """Those of commands whose attention any backend can compute within a budget of memory."""

    @chz.validate
    def _bases_sane(self) -> None:
        """The checks of both bases: chz takes those of the first only, unless a class has one of its own."""


def fields_of(config: type) -> dict[str, Any]:
    """The chz fields of a config by name: a class's own first, those that commands share behind, in one order for all."""
    last = getattr(config, "LAST", ())
    fields = chz.chz_fields(config)
    return {name: fields[name] for name in sorted(fields, key=lambda n: last.index(n) if n in last else -1)}
