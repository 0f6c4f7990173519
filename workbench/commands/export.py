"""`workbench export RUN format=NAME`: head scores into the files that serving stacks read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import chz

from workbench.command import Command

PROVENANCE = "provenance.json"


@chz.chz
class Export:
    """What to export, how to cut it, where to. Options that a format does not take are refused."""

    run: str = chz.field(doc="run folder or score file")
    format: str = chz.field(doc="see `workbench formats`")
    out: str | None = chz.field(default=None, doc="folder to write; default: inside the run, or here for a file")
    sparsity: float | None = chz.field(default=None, doc="share of streaming heads, 0 to 1")
    threshold: float | None = chz.field(default=None, doc="heads that score at least this stay full")
    gates: bool | None = chz.field(default=None, doc="write raw scores instead of a 0/1 pattern")
    unscored: Literal["refuse", "full"] | None = chz.field(default=None, doc="heads without a score: refuse or full")
    sink_size: int | None = chz.field(default=None, doc="first tokens that streaming heads keep")
    recent_size: int | None = chz.field(default=None, doc="last tokens that streaming heads keep")
    kv_heads: int | None = chz.field(default=None, doc="key-value heads a layer, where the file does not say")


@dataclass(frozen=True)
class Exported:
    """The files written, and what their provenance file says."""

    files: tuple[Path, ...]
    provenance: Mapping[str, Any]

    def __rich__(self) -> Any:
        """The lines in the terminal."""
        from rich.console import Group
        from rich.text import Text

        lines = [f"wrote {path}" for path in self.files]
        cut = self.provenance.get("cut", {})
        lines += [f"{name.replace('_', ' ')}: {value}" for name, value in cut.items() if value is not None]
        if self.provenance:
            lines.append(f"query heads to key-value heads: {self.provenance['kv_reduction']}")
            lines.append(
                "not validated" if self.provenance["validation"] == "not validated" else "validated: see report"
            )
        return Group(*map(Text, lines))

    def summary(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"files": [str(path) for path in self.files], "provenance": dict(self.provenance)}


def run(config: Export) -> Exported:
    """Read the scores, write the format. Raises BadInput in one line."""
    from workbench.exporters import discover, export
    from workbench.scores_io import read_scores

    scores = read_scores(config.run, config.kv_heads)
    exporter = discover().get(config.format)
    aside = ("run", "format", "out", "kv_heads")
    options = {name: value for name, value in chz.asdict(config).items() if name not in aside and value is not None}
    if exporter and "validation" in exporter.options:
        options["validation"] = _validation(Path(config.run))
    files = export(scores, config.format, config.out or _beside(Path(config.run), config.format), **options)
    facts = next((path for path in files if path.name == PROVENANCE), None)
    return Exported(tuple(files), json.loads(facts.read_text()) if facts else {})


def _validation(path: Path) -> Any:
    """The causal check that a finished run recorded, or None."""
    from workbench.run_record import read_run

    if not (path / "run.json").is_file():
        return None
    found = (read_run(path).get("summary") or {}).get("validation")
    return None if found == "not validated" else found


def _beside(path: Path, name: str) -> Path:
    if (path / "run.json").is_file():
        return path / name
    return Path(f"{path.stem if path.is_file() else path.resolve().name}-{name}")


COMMAND = Command("export", "head scores as serving configs", Export, run, positional=("run",))
