"""A run: one folder that holds a question, what has been answered so far, and what it cost.

`<command>-<model>-<hash of the question>/` with `run.json`, `progress.jsonl` (a line per finished unit),
`shards/` and the results. Every file is written whole or not at all, so a killed run loses at most the
unit it was working on, and the same question opened again goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from workbench import atomic
from workbench.errors import BadInput, RunError
from workbench.inside import check_links
from workbench.jsonable import canonical, dumps, jsonable
from workbench.locks import FolderLock
from workbench.run_log import FIELDS, read_log
from workbench.run_record import also, changed, earlier_record, now, read_run, same_question, started
from workbench.shards import Damaged, checked, file_name, model_slug, pack

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Remember", "Run", "read_run", "unremembered"]

Work = Callable[[], tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]
"""The arrays and the JSON-able facts of one unit of work, computed when called."""
Remember = Callable[[str, Work], tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]
"""A unit's name and its work; what it gave, now or in an earlier session."""

_OWN = ("run.json", "progress.jsonl", "lock", "shards")


def unremembered(unit: str, work: Work) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """`Run.remember` where no run folder is written."""
    return work()


class Run:
    """One writer of a run folder; make it with `Run.open`, best in a `with` statement.

    path: the folder. resumed: whether it was there before. question: as given, in JSON's types.
    warnings: one line for each shard or log line that was damaged and will be redone.
    """

    def __init__(self, path: Path, lock: FolderLock, record: dict[str, Any], resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self.question: dict[str, Any] = record["question"]
        self.warnings: list[str] = []
        self._lock = lock
        self._record = record
        self._verified: set[str] = set()
        self._units = self._read_progress()
        self._clock = time.perf_counter()

    @classmethod
    def open(
        cls, out: str | Path, command: str, model: str, question: Mapping[str, Any], label: str = "",
        backend: str | None = None, part: str = "", conditions: Mapping[str, Any] | None = None,
    ) -> Self:  # fmt: skip
        """Create or resume the folder of a question below `out`.

        question: every option that can change a number (JSON-able, no NaN). label: what the model is, in words.
        backend: what computes attention, in words. part: what the folder's name ends in where it holds a part of the run.
        conditions: where and how tensors are computed (`workbench.conditions`).
        Raises BadInput if `out` cannot be written or the question holds NaN; RunError if another process
        writes there or the folder holds another question.
        """
        try:
            text = canonical(question)
        except ValueError as error:
            raise BadInput(str(error)) from None
        path = Path(out) / f"{command}-{model_slug(model)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}{part}"
        try:
            atomic.make_folders(path / "shards")
            check_links(path)
            lock = FolderLock(path)
        except OSError as error:
            raise BadInput(f"cannot write in {path} ({error.strerror}): name another folder with out=") from None
        try:
            with _writing(path):
                atomic.remove_partial(path)
                atomic.remove_partial(path / "shards")
            record = earlier_record(path)
            resumed = record is not None
            if record is not None:
                same_question(path, record, command, text)
            run = cls(
                path, lock, started(record, command, model, label, jsonable(question), backend, conditions), resumed
            )
            run._write_record()
            run.warnings += changed(path, record, run._record)
            return run
        except BaseException:
            with suppress(OSError):
                lock.release()
            raise

    def __enter__(self) -> Self:
        """The run itself; leaving gives the folder back and records how the work ended."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record an interruption or a failure in run.json and let the next writer in. Raises RunError."""
        if error is None:
            self.close()
            return
        self._record["state"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self._record["error"] = " ".join(f"{type(error).__name__}: {error}".split())
        try:
            with suppress(RunError):  # what ended the work says more than a disk that refuses once more
                self._write_record()
        finally:
            with suppress(RunError):
                self.close()

    def close(self) -> None:
        """Give the folder back; what the run is called ("running", "done") stays as it is. Raises RunError."""
        with _writing(self._lock.path):
            self._lock.release()

    def done(self) -> set[str]:
        """Units with a shard whose checksum holds; damaged shards are named in `warnings` and removed."""
        for unit, entry in list(self._units.items()):
            if unit in self._verified:
                continue
            shard = self.path / "shards" / entry["shard"]
            try:
                checked(shard, entry["sha256"])
                self._verified.add(unit)
            except Damaged as fault:
                self.warnings.append(f"shard {shard.name} of unit {unit!r} {fault}: it will be computed again")
                shard.unlink(missing_ok=True)
                del self._units[unit]
        return set(self._units)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of the shard of each unit that is `done`."""
        return {unit: self._units[unit]["sha256"] for unit in self.done()}

    def save(self, unit: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any] | None = None) -> None:
        """Store what one unit of work gave: its shard first, then its line in progress.jsonl.

        meta: JSON-able facts; a NaN in it comes back as None. Raises RunError if the disk refuses.
        """
        data = pack(arrays, {"unit": unit})
        clock = time.perf_counter()
        entry = {
            "unit": unit,
            "shard": file_name(unit),
            "sha256": hashlib.sha256(data).hexdigest(),
            "seconds": round(clock - self._clock, 6),
            "meta": jsonable(meta or {}),
        }
        self._store(unit, data, entry)
        self._clock = clock

    def adopt(self, unit: str, entry: Mapping[str, Any], data: bytes) -> None:
        """Store a unit that another run has done. entry: its line in that run's log; data: the bytes of its shard."""
        self._store(unit, data, {"unit": unit, **{field: entry[field] for field in FIELDS}})

    def made_elsewhere(self, others: Iterable[Mapping[str, Any]]) -> None:
        """Record circumstances (`run_record.CIRCUMSTANCES`) under which others made units of this run. Raises RunError."""
        held = also(self._record, [*self._record["also_made_with"], *others])
        if held != self._record["also_made_with"]:
            self._record["also_made_with"] = held
            self._write_record()

    def _store(self, unit: str, data: bytes, entry: dict[str, Any]) -> None:
        with _writing(self.path / entry["shard"]):
            atomic.write_bytes(self.path / "shards" / entry["shard"], data)
            atomic.append_line(self.path / "progress.jsonl", dumps(entry))
        self._units[unit] = entry
        self._verified.add(unit)

    def load(self, unit: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and meta of a finished unit. Raises RunError if it is not there or damaged."""
        if unit not in self._units:
            raise RunError(f"{self.path} has no finished unit {unit!r}")
        entry = self._units[unit]
        shard = self.path / "shards" / entry["shard"]
        try:
            return safetensors.numpy.load(checked(shard, entry["sha256"])), entry["meta"]
        except (Damaged, SafetensorError) as fault:
            message = f"shard {shard} of unit {unit!r} {fault}: run the same command again, it is then redone"
            raise RunError(message) from None

    def remember(self, unit: str, work: Work) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
        """What a finished unit gave, or else the work done now and stored."""
        if unit not in self.done():
            arrays, meta = work()
            self.save(unit, arrays, meta)
        return self.load(unit)

    def seconds(self) -> float:
        """Seconds of work that the finished units took, earlier sessions included."""
        return sum(entry["seconds"] for entry in self._units.values())

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file into the folder, whole or not at all."""
        return self._write(name, text.encode())

    def write_json(self, name: str, value: Any) -> Path:
        """Write strict JSON (NaN as null)."""
        return self._write(name, dumps(value, indent=1).encode() + b"\n")

    def write_table(self, name: str, frame: DataFrame) -> Path:
        """Write a table as parquet, without its index."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return self._write(name, buffer.getvalue())

    def write_tensors(self, name: str, arrays: Mapping[str, np.ndarray]) -> Path:
        """Write arrays as safetensors."""
        return self._write(name, pack(arrays, {}))

    def finish(self, summary: Mapping[str, Any], cost: Mapping[str, Any], error: str | None = None) -> None:
        """Mark the run as done, with its answer in short and what it cost; as failed, where a part of it did."""
        ended = {"state": "done"} if error is None else {"state": "failed", "error": error}
        self._record |= {**ended, "ended": now(), "cost": jsonable(cost), "summary": jsonable(summary)}
        self._write_record()

    def _write(self, name: str, data: bytes) -> Path:
        if not name or name in _OWN or name != Path(name).name or name.startswith("."):
            raise ValueError(f"{name!r} is not a free file name in a run folder")
        with _writing(self.path / name):
            atomic.write_bytes(self.path / name, data)
        return self.path / name

    def _write_record(self) -> None:
        with _writing(self.path / "run.json"):
            atomic.write_bytes(self.path / "run.json", dumps(self._record, indent=1).encode() + b"\n")

    def _read_progress(self) -> dict[str, dict[str, Any]]:
        """Finished units by name, the latest line of each; a line that a kill tore off is dropped."""
        log = self.path / "progress.jsonl"
        with _writing(log):
            atomic.drop_torn_line(log)
        units, warnings = read_log(log)
        self.warnings += warnings
        return units


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What a disk refuses is said in one line."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path} ({error.strerror}): what is finished is kept, mend this and run the same command again"
        ) from None
