"""The work of one command: its model, its run folder if one is written, its stages; how all of them begin and end.

A new analysis: `job = Job(config, model)`; `with job.running("its-name", config.question_asked()) as stages:` compute with
`job.remember`, make the result with `job.cost()` and `job.path`, and call `job.keep(result, files)`. Where its config has
`SpreadOptions`, its first stage asks `job.spread(units)`, and behind the `with` stands `return job.part_done`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from workbench import backends, merging
from workbench.beginnings import first_ids
from workbench.budget import budgeted
from workbench.conditions import conditions
from workbench.cost import peak_memory
from workbench.heads import ModelIdentity
from workbench.models import Model, load
from workbench.parts import Part, part_of
from workbench.progress import Stages, progress
from workbench.reported import OfCommand
from workbench.run_record import with_options
from workbench.runs import Remember, Run, unremembered
from workbench.spread_options import Engine, engine_of
from workbench.spreading import Gave, PartDone, Unit, spread

C = TypeVar("C")
R = TypeVar("R", bound=OfCommand)


class Job(Generic[C]):
    """config: chz, with model, dtype, device, trust_remote_code, out and perhaps backend. model: None loads it.

    Raises ModelError for a model that cannot be loaded, Unsupported for a backend that cannot work where it is.
    """

    stages: Stages
    command: str
    question: Mapping[str, Any]
    """As asked, with the model's identity; inside `running`."""
    backend_in_words: str | None = None
    part_done: Any = None
    """What `shard=` did, once it is done."""

    def __init__(self, config: C, model: Model | None = None) -> None:
        self._started = time.perf_counter()
        self.config, asked = config, cast(Any, config)
        self.model = model or load(str(asked.model), asked.dtype, asked.device, asked.trust_remote_code)
        self._out: str | None = asked.out
        self._backend: str | None = getattr(asked, "backend", None)
        self._memory: str | None = getattr(asked, "memory", None)
        if self._backend is not None:
            backends.demand(self._backend, self.model.device)
        shard: str | None = getattr(asked, "shard", None)
        self.part: Part | None = None if shard is None else part_of(shard)
        self.engine: Engine = engine_of(getattr(asked, "engine", "local"))
        self.run: Run | None = None

    @cached_property
    def identity(self) -> ModelIdentity:
        """Name, config hash and weights of the model."""
        return ModelIdentity(self.model.name, *self.model.identity())

    @property
    def remember(self) -> Remember:
        """Stores units of work, or only does them where no run folder is written."""
        return unremembered if self.run is None else self.run.remember

    @property
    def path(self) -> str | None:
        """The run folder, if one is written."""
        return None if self.run is None else str(self.run.path)

    @property
    def seconds(self) -> float:
        """Since the job began, loading included."""
        return time.perf_counter() - self._started

    def cost(self, **parts: float) -> dict[str, float]:
        """Seconds of this session, peak MiB, and with a run folder the seconds of its units in all sessions."""
        cost = {**parts, "seconds": self.seconds, "peak_memory_mib": peak_memory()}
        return cost if self.run is None else {**cost, "unit_seconds": self.run.seconds()}

    @contextmanager
    def running(self, command: str, question: Mapping[str, Any]) -> Iterator[Stages]:
        """Inside, the backend computes attention, the folder below `config.out` is open and progress is shown.

        With `shard=` the rest of the block is left once that part is done. question: what can change a number; the
        model's identity is added. Raises BadInput and RunError.
        """
        self.command = command
        question = {**question, "identity": [self.identity.config_hash, self.identity.weights], **self._beginning()}
        self.question, used = question, nullcontext()
        if self._backend is not None:
            used = backends.used(self.model, self._backend)
            self.backend_in_words = backends.in_words(self._backend, self.model.device)
        merged = merging.MERGED.get()
        if merged is not None:
            merged.check_question(command, question)
        with (
            used, self._opened(command, question) as self.run, progress() as stages, self._left_when_part_is_done(),
            budgeted(self.model, self._memory, stages.note),
        ):  # fmt: skip
            self.stages = stages
            if merged is not None and self.run is not None:
                merged.give(self.run)
            yield stages

    def spread(self, units: Iterable[Unit]) -> Iterator[Gave]:
        """What independent units gave, in their order: done here, in part, or on a cluster, as the config says."""
        return spread(self, units)

    def keep(self, result: R, files: Callable[[R, Run], None]) -> None:
        """Write a result where a run folder is open: its files, its report, the record; say what was damaged before."""
        if self.run is None:
            return
        files(result, self.run)
        self.run.write_text("report.html", result.report())
        self.run.finish(result.summary(), result.cost, result.error)
        for warning in self.run.warnings:
            self.stages.note(f"note: {warning}")

    def _beginning(self) -> dict[str, list[int]]:
        """What begins a text, where it is not what TransformerLens takes for BOS, with which older folders began."""
        own, lent = first_ids(self.model.tokenizer), self.model.bridge.tokenizer.bos_token_id
        return {} if own == (lent,) else {"begins": list(own)}

    def _opened(self, command: str, question: Mapping[str, Any]) -> Any:
        if not self._out:
            return nullcontext()
        part = "" if self.part is None else self.part.suffix
        return Run.open(
            self._out, command, self.model.name, question, self.model.label, self.backend_in_words, part,
            with_options(conditions(self.model), self.config),
        )  # fmt: skip

    @contextmanager
    def _left_when_part_is_done(self) -> Iterator[None]:
        try:
            yield
        except PartDone as done:
            self.part_done = done.result
