"""The work of one command: its model, its run folder if one is written, its stages; how all of them begin and end.

A new analysis: `job = Job(config, model)`; `with job.running("its-name", config.question_asked()) as stages:` compute with
`job.remember`, make the result with `job.cost()` and `job.path`, and call `job.keep(result, files)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from workbench import backends
from workbench.cost import peak_memory
from workbench.heads import ModelIdentity
from workbench.models import Model, load
from workbench.progress import Stages, progress
from workbench.reported import OfCommand
from workbench.runs import Remember, Run, unremembered

C = TypeVar("C")
R = TypeVar("R", bound=OfCommand)


class Job(Generic[C]):
    """config: chz, with model, dtype, device, trust_remote_code, out and perhaps backend. model: None loads it.

    Raises ModelError for a model that cannot be loaded, Unsupported for a backend that cannot work where it is.
    """

    stages: Stages

    def __init__(self, config: C, model: Model | None = None) -> None:
        self._started = time.perf_counter()
        self.config, asked = config, cast(Any, config)
        self.model = model or load(str(asked.model), asked.dtype, asked.device, asked.trust_remote_code)
        self._out: str | None = asked.out
        self._backend: str | None = getattr(asked, "backend", None)
        if self._backend is not None:
            backends.demand(self._backend, self.model.device)
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

        question: what can change a number; the model's identity is added. Raises BadInput and RunError.
        """
        question = {**question, "identity": [self.identity.config_hash, self.identity.weights]}
        used, backend = nullcontext(), None
        if self._backend is not None:
            used = backends.used(self.model, self._backend)
            backend = backends.in_words(self._backend, self.model.device)
        with used, self._opened(command, question, backend) as self.run, progress() as stages:
            self.stages = stages
            yield stages

    def keep(self, result: R, files: Callable[[R, Run], None]) -> None:
        """Write a result where a run folder is open: its files, its report, the record; say what was damaged before."""
        if self.run is None:
            return
        files(result, self.run)
        self.run.write_text("report.html", result.report())
        self.run.finish(result.summary(), result.cost, result.error)
        for warning in self.run.warnings:
            self.stages.note(f"note: {warning}")

    def _opened(self, command: str, question: Mapping[str, Any], backend: str | None) -> Any:
        if not self._out:
            return nullcontext()
        return Run.open(self._out, command, self.model.name, question, self.model.label, backend)
