"""One part of a run as it lies on disk, read as something from elsewhere: nothing in it is trusted, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.inside import check_links
from workbench.parts import PLAN, Part, part_of
from workbench.run_log import read_log
from workbench.run_record import made_with, read_run
from workbench.schema import schema_of
from workbench.untrusted import read_json


@dataclass(frozen=True)
class PartFolder:
    """A part's folder.

    units: those that are its own, of `of_units` of the whole run. entries: the log's lines of finished units. options: as
    typed. made_with: versions, backend, device, batch. circumstances: all under which its units were made.
    """

    path: Path
    part: Part
    command: str
    model: str
    question: Mapping[str, Any]
    units: tuple[str, ...]
    of_units: int
    options: Mapping[str, str]
    made_with: Mapping[str, Any]
    entries: Mapping[str, Mapping[str, Any]]
    circumstances: Sequence[Mapping[str, Any]]


def read_part(path: Path) -> PartFolder:
    """A part from its folder. Raises BadInput, in one line, for what is damaged, of a later version, or leads elsewhere."""
    check_links(path)
    record, file = read_run(path), path / PLAN
    plan = read_json(file, "the plan of a part")
    fields = {"shard": str, "units": list, "of_units": int, "options": dict, "made_with": dict}
    if not isinstance(plan, dict) or any(type(plan.get(name)) is not kind for name, kind in fields.items()):
        raise BadInput(f"{file} is damaged: run its shard again under another out=")
    schema_of(plan, file)
    texts = [*plan["units"], *plan["options"], *plan["options"].values(), record.get("command"), record.get("model")]
    if not all(isinstance(text, str) for text in texts):
        raise BadInput(f"{file} is damaged: names and options are texts; run its shard again under another out=")
    entries, _ = read_log(path / "progress.jsonl")
    return PartFolder(
        path, part_of(plan["shard"]), record["command"], record["model"], record["question"], tuple(plan["units"]),
        plan["of_units"], plan["options"], plan["made_with"], entries, made_with(record),
    )  # fmt: skip
