"""The record of a run (run.json): what was asked, with what, when, at what cost, and how it ended."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, RunError
from workbench.inside import check_links
from workbench.invocation import command_line
from workbench.jsonable import canonical
from workbench.schema import SCHEMA, schema_of
from workbench.untrusted import LARGEST, parsed, text_of
from workbench.versions import versions

CIRCUMSTANCES = ("versions", "conditions", "machine")
"""Fields that tell with what and where numbers were made."""
OPTIONS = ("batch", "memory")
"""Options that ask no other question, but decide what is computed together: they are told among the conditions."""


def read_run(path: str | Path) -> dict[str, Any]:
    """The record of a run (run.json) from its folder or the file itself. Raises BadInput in one line."""
    file = Path(path)
    if file.is_dir():
        file = file / "run.json"
    try:
        record = parsed(text_of(file, LARGEST))
    except FileNotFoundError:
        raise BadInput(f"{path} is not a run folder (no {file.name}): name one that a scan wrote") from None
    except OSError as error:
        raise BadInput(f"cannot read {file} ({error.strerror})") from None
    except ValueError as error:
        raise BadInput(f"{file} is damaged ({error}): delete it or move its folder away") from None
    if isinstance(record, dict):
        schema_of(record, file)
    sane = isinstance(record, dict) and isinstance(record.get("question"), dict)
    if not sane or not isinstance(record.get("summary") or {}, dict):
        raise BadInput(f"{file} is not the record of a run: name a folder that a scan wrote")
    return record


def check_folder(path: str | Path) -> None:
    """Raises BadInput for a run folder with a damaged or later record, or with links out of it; other places pass."""
    if (Path(path) / "run.json").is_file():
        check_links(Path(path))
        read_run(path)


def earlier_record(path: Path) -> dict[str, Any] | None:
    """The record that a folder already holds, if any. Raises RunError if it cannot be relied on."""
    if (path / "run.json").exists():
        try:
            return read_run(path)
        except BadInput as error:
            raise RunError(str(error)) from None
    if any((path / "shards").iterdir()):
        raise RunError(f"{path} has shards but no run.json, so nobody knows their question: move it away")
    return None


def same_question(path: Path, record: dict[str, Any], command: str, text: str) -> None:
    """Raises RunError, naming what differs, unless the record asks the question of that canonical text."""
    there, here = json.loads(canonical(record["question"])), json.loads(text)
    differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    if record.get("command") != command:
        differing.insert(0, "command")
    if differing:
        raise RunError(
            f"{path} holds another question (differs in {', '.join(differing)}): "
            "name another folder with out=, or move this one away"
        )


def started(
    earlier: dict[str, Any] | None, command: str, model: str, label: str, question: dict[str, Any],
    backend: str | None = None, conditions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The record of a run that is under way; a resumed one remembers when it started and with what else it was made."""
    this = now()
    record = {
        "schema": SCHEMA,
        "state": "running",
        "command": command,
        "model": model,
        "label": label,
        "question": question,
        "backend": backend,
        "seeds": {key: value for key, value in question.items() if "seed" in key},
        "command_line": command_line(),
        **present(conditions),
        "started": earlier.get("started") if earlier else this,
        "resumed": [*_times(earlier), this] if earlier else [],
        "ended": None,
        "cost": {},
        "summary": {},
    }
    return record | {"also_made_with": also(record, made_with(earlier or {}))}


def _times(record: dict[str, Any]) -> list[Any]:
    held = record.get("resumed")
    return held if isinstance(held, list) else []


def with_options(conditions: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Conditions, and those of OPTIONS that a command has."""
    return {**conditions, **{name: getattr(config, name) for name in OPTIONS if hasattr(config, name)}}


def present(conditions: Mapping[str, Any] | None) -> dict[str, Any]:
    """The circumstances of this process. conditions: by `workbench.conditions`, of its model."""
    machine = {"platform": platform.platform(), "processors": os.cpu_count()}
    return {"conditions": dict(conditions or {}), "versions": versions(), "machine": machine}


def circumstances(record: Mapping[str, Any]) -> dict[str, Any]:
    """With what and where the session of a record computes."""
    return {field: record[field] for field in CIRCUMSTANCES if isinstance(record.get(field), Mapping) and record[field]}


def made_with(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The circumstances under which the units of a run were made, by its record; those of its last session are the last."""
    held = record.get("also_made_with")
    found = [circumstances(x) for x in held if isinstance(x, Mapping)] if isinstance(held, list) else []
    return [x for x in (*found, circumstances(record)) if x]


def also(record: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each of the others once, without those of the record's own session."""
    here, found = circumstances(record), list[Mapping[str, Any]]()
    for one in others:
        if one != here and one not in found:
            found.append(one)
    return found


def changed(path: Path, earlier: Mapping[str, Any] | None, here: Mapping[str, Any]) -> list[str]:
    """A line each where a run goes on with other versions or under other conditions than units of it were made.

    None where nobody recorded any; OPTIONS count where they were recorded, which older versions did not.
    """
    out, before = [], made_with(earlier or {})
    for field, said in (("versions", "with other versions of the libraries"), ("conditions", "under other conditions")):
        this, told = here[field], [one[field] for one in before if field in one]
        names = sorted({name for there in told for name in there.keys() | this.keys()}) if this else []
        held = {name: _others(told, name, this.get(name)) for name in names}
        if what := ", ".join(f"{name} {' and '.join(x)}, now {this.get(name)}" for name, x in held.items() if x):
            out.append(f"{path} was begun {said}, so that last digits may differ: {what}")
    return out


def _others(told: Iterable[Mapping[str, Any]], name: str, this: Any) -> list[str]:
    """What else a fact was in earlier sessions, each once."""
    known = (one for one in told if name in one or name not in OPTIONS)
    return list(dict.fromkeys(str(one.get(name)) for one in known if one.get(name) != this))


def now() -> str:
    """The present in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
