"""Parts of a run put together: whether all are there, whether they ask one question, and their units copied into one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput, RunError
from workbench.jsonable import canonical
from workbench.part_folders import PartFolder, read_part
from workbench.parts import PLAN
from workbench.shards import Damaged, checked

if TYPE_CHECKING:
    from workbench.runs import Run

MERGED: ContextVar[Parts | None] = ContextVar("MERGED", default=None)
"""The parts that the command at hand ends."""
UNSAID = ("out", "device", "memory", "shard", "engine", "trust_remote_code")
NAMED = 3
"""Units or shards that an error names."""


@dataclass(frozen=True)
class Parts:
    """All parts of one run, by `together`."""

    folders: tuple[PartFolder, ...]

    @property
    def first(self) -> PartFolder:
        """Any of them tells the question."""
        return self.folders[0]

    def check_question(self, command: str, question: Mapping[str, Any]) -> None:
        """Raises BadInput, naming what differs, unless this machine asks what the parts asked."""
        differing = _differing(self.first.question, question)
        if command != self.first.command:
            differing.insert(0, "command")
        if differing:
            raise BadInput(
                f"{self.first.path} answers another question than this machine would ask (differs in "
                f"{', '.join(differing)}): merge where the model and the files are those of the shards"
            )

    def give(self, run: Run) -> None:
        """Copy every unit that the run lacks or holds otherwise, once its checksum holds; say which it held otherwise.

        Raises RunError for units that two parts give and that differ.
        """
        there, given, stale = run.checksums(), dict[str, tuple[str, PartFolder]](), []
        for folder in self.folders:
            for unit, entry in folder.entries.items():
                sha256, other = given.setdefault(unit, (entry["sha256"], folder))
                if sha256 != entry["sha256"]:
                    raise RunError(
                        f"shards {other.part} and {folder.part} give other results for {unit!r}, which all of them need: "
                        "were they run on machines of one kind?"
                    )
                if there.get(unit) == sha256:
                    continue
                if unit in there:
                    stale.append(unit)
                there[unit] = sha256
                run.adopt(unit, entry, _bytes(folder, unit))
        if stale:
            run.warnings.append(
                f"{run.path} held other results for {len(stale)} units ({_few(stale)}): those of the shards stand now"
            )
        run.made_elsewhere(x for folder in self.folders for x in folder.circumstances)


def together(paths: Iterable[str], mixed: bool = False) -> Parts:
    """The parts in or beside these places: every one once, of one question, made alike, with all their units.

    mixed: parts made with other versions or on other devices are merged all the same. Raises BadInput, RunError for
    shards or units that are missing.
    """
    folders = [read_part(path) for path in _found(list(paths))]
    first = folders[0]
    for folder in folders[1:]:
        _same(first, folder, mixed)
    for part, n in Counter(f.part for f in folders).items():
        if n > 1:
            twice = [str(f.path) for f in folders if f.part == part]
            raise BadInput(f"shard {part} is there {n} times ({', '.join(twice)}): give one of them")
    missing = sorted(set(range(first.part.of)) - {f.part.index for f in folders})
    if missing:
        again = [f"shard={i}/{first.part.of}" for i in missing]
        raise RunError(f"{len(missing)} of {first.part.of} shards are missing: run {_few(again)}, then merge")
    for folder in folders:
        if lacks := [unit for unit in folder.units if unit not in folder.entries]:
            raise RunError(
                f"{folder.path} lacks {len(lacks)} of its {len(folder.units)} units ({_few(lacks)}): run shard={folder.part} "
                "again, then merge"
            )
    _whole(folders)
    return Parts(tuple(sorted(folders, key=lambda f: f.part.index)))


def recorded(config: type) -> list[str]:
    """The options that a part tells: not where it writes, on what, which part it is, and whom it trusts."""
    from workbench.options import options_of

    return [key for key in options_of(config) if key not in UNSAID]


def in_words(config: Any) -> dict[str, str]:
    """What a config was asked beside its defaults, as it would be typed."""
    from workbench.options import options_of, written

    defaults = options_of(type(config))
    said = {key: getattr(config, key) for key in recorded(type(config))}
    return {key: written(value) for key, value in said.items() if value != defaults[key].default}


def _found(paths: Sequence[str]) -> list[Path]:
    """Part folders: the paths themselves, those inside them, or those beside the run folder that they would make."""
    found: dict[Path, Path] = {}
    for text in paths:
        path = Path(text)
        here = [path] if (path / PLAN).is_file() else [f.parent for f in sorted(path.glob(f"*/{PLAN}"))]
        here = here or [f.parent for f in sorted(path.parent.glob(f"{_literal(path.name)}.shard-*-of-*/{PLAN}"))]
        if not here:
            raise BadInput(f"{text} holds no part of a run: give folders that shard= wrote, or the folder they lie in")
        found.update({folder.resolve(): folder for folder in here})
    if not found:
        raise BadInput("merge needs the folders that shard= wrote, or the folder they lie in")
    return list(found.values())


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _same(first: PartFolder, other: PartFolder, mixed: bool) -> None:
    """Raises BadInput, naming what differs, unless both are parts of one run."""
    differing = _differing(first.question, other.question)
    if first.command != other.command:
        differing.insert(0, "command")
    if differing:
        raise BadInput(
            f"{first.path} and {other.path} answer other questions (differ in {', '.join(differing)}): "
            "merge the parts of one run, give their folders"
        )
    if first.part.of != other.part.of or first.of_units != other.of_units:
        raise BadInput(
            f"{first.path} is one of {first.part.of} shards, {other.path} one of {other.part.of}, of {first.of_units} and "
            f"{other.of_units} units: merge the parts of one dealing, give their folders"
        )
    if not mixed and (unlike := _differing(first.made_with, other.made_with)):
        said = ", ".join(f"{key} {first.made_with.get(key)} and {other.made_with.get(key)}" for key in unlike)
        raise BadInput(
            f"{first.path} and {other.path} were made differently ({said}): run one of them again as the other, or say "
            "mixed=true: numbers then may differ in their last digits"
        )


def _whole(folders: Sequence[PartFolder]) -> None:
    """Raises RunError unless every unit belongs to one part, and all units to some."""
    owned = Counter(unit for folder in folders for unit in folder.units)
    if sum(owned.values()) != folders[0].of_units or max(owned.values(), default=1) > 1:
        raise RunError(
            f"the shards beside {folders[0].path} do not make {folders[0].of_units} units, each once: run them again"
        )


def _bytes(folder: PartFolder, unit: str) -> bytes:
    entry = folder.entries[unit]
    shard = folder.path / "shards" / entry["shard"]
    try:
        return checked(shard, entry["sha256"])
    except Damaged as fault:
        raise RunError(f"{shard} of unit {unit!r} {fault}: run shard={folder.part} again, then merge") from None


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [key for key in sorted(a.keys() | b.keys()) if canonical(a.get(key)) != canonical(b.get(key))]


def _few(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
