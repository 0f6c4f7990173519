"""The log of a run folder (progress.jsonl): a line for each finished unit. Reading it writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.shards import file_name
from workbench.untrusted import parsed

FIELDS = ("shard", "sha256", "seconds", "meta")
"""Of a line, beside its unit's name."""
_KINDS = {"sha256": str, "seconds": int | float, "meta": dict}


def read_log(log: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Finished units by name, the latest line of each, and a sentence for each line that is damaged.

    What follows the last newline is left out: a writer is at it, or was killed. No file: no units.
    """
    units: dict[str, dict[str, Any]] = {}
    warnings = []
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    for number, line in enumerate(text.split("\n")[:-1], start=1):  # texts may hold other ends of lines
        try:
            entry = parsed(line)
            if entry["shard"] != file_name(entry["unit"]):
                raise ValueError("a log names only the shards of its own folder")
            fields = {key: entry[key] for key in FIELDS}
            if any(not isinstance(fields[key], kind) for key, kind in _KINDS.items()) or fields["seconds"] < 0:
                raise TypeError("a field of another kind")
            units[entry["unit"]] = fields
        except (ValueError, KeyError, TypeError, AttributeError):
            warnings.append(f"line {number} of {log} is damaged: its unit will be computed again")
    return units, warnings
