"""The layout of run folders and of every JSON file that is read back: one number, and the one check of it.

A file says it beside the version that wrote it: `{"schema": 2, "workbench": "0.1.0", …}`; run.json names its versions
anyway. What each number stands for:

0: files without a number: lists of heads and provenance.json, until 2.
1: run.json, scores.meta.json, metrics.json and circuits said 1, each in its own words.
2: all of them say `schema`; nothing else changed, so 0 and 1 are read like 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import workbench
from workbench.errors import BadInput

SCHEMA = 2
"""Raised by one whenever an older workbench would misread what is written now; older files are still read."""
STAMP = ("schema", "workbench")
"""The fields of a stamp."""


def stamp() -> dict[str, Any]:
    """What a file that is read back says of its layout."""
    return dict(zip(STAMP, (SCHEMA, workbench.__version__), strict=True))


def schema_of(record: Mapping[str, Any], place: str | Path, unsaid: Any = 0) -> int:
    """The layout of a record that was read from a place; unsaid: what one without the field has.

    Raises BadInput, in one line, for what is no number and for layouts of later versions.
    """
    found = record.get("schema", unsaid)
    if type(found) is not int or found < 0:
        raise BadInput(f"{place} is damaged: its schema is {found!r}, which is no whole number from 0")
    if found > SCHEMA:
        raise BadInput(
            f"{place} has layout {found}, written by workbench {_writer(record)}; this is {workbench.__version__} and "
            f"reads up to {SCHEMA}: update workbench, or make it again with this one under another out="
        )
    return found


def _writer(record: Mapping[str, Any]) -> str:
    """The version that a record names, cut short where it is no version."""
    versions = record.get("versions")
    told = record.get("workbench", versions.get("workbench") if isinstance(versions, dict) else None)
    return " ".join(told.split())[:40] if isinstance(told, str) and told.strip() else "of a later version"
