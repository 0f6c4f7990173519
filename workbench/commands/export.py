"""`workbench export RUN format=NAME`: head scores into the files that serving stacks read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import chz

from workbench.command import Command
from workbench.errors import BadInput
from workbench.option_values import at_most

if TYPE_CHECKING:
    from workbench.exporters import Exporter
    from workbench.heads import HeadScores


@chz.chz
class Export:
    """What to export, how to cut it, where to. Options that a format does not take are refused."""

    run: str = chz.field(doc="run folder or score file")
    format: str = chz.field(doc="see `workbench formats`")
    score: str | None = chz.field(default=None, doc="which score, of a run of atlas; default: the one in scores.json")
    out: str | None = chz.field(default=None, doc="folder to write; default: inside the run, or here for a file")
    sparsity: float | None = chz.field(default=None, doc="cut: share of streaming heads, 0 to 1")
    threshold: float | None = chz.field(default=None, doc="cut: heads that score at least this stay full")
    budget: float | None = chz.field(
        default=None, doc="cut: share of the cache kept at context= tokens, windows included"
    )
    recall: float | None = chz.field(
        default=None, doc="cut: fewest heads that keep this recall by its lower 95 % bound"
    )
    gates: bool | None = chz.field(default=None, doc="no cut: write raw scores instead of a 0/1 pattern")
    unscored: Literal["refuse", "full"] | None = chz.field(default=None, doc="heads without a score: refuse or full")
    tiebreak: str | None = chz.field(default=None, doc="run or score file that orders equal scores; else (layer, head)")
    sink_size: int | None = chz.field(default=None, doc="first tokens that streaming heads keep")
    recent_size: int | None = chz.field(default=None, doc="last tokens that streaming heads keep")
    context: int | None = chz.field(
        default=None, doc="tokens that are served: budgets count there, recall is asked there"
    )
    ranks: int | None = chz.field(default=None, doc="tensor-parallel ranks: full heads of each are counted")
    balance: bool | None = chz.field(default=None, doc="give every rank equally many full heads")
    model: str | None = chz.field(
        default=None, doc="the model to serve: scores of another are refused; asked for recall="
    )
    samples: int | None = chz.field(default=None, doc="needles for recall=: so many to search, as many to report")
    seed: int | None = chz.field(default=None, doc="draws those needles")
    layers: int | None = chz.field(default=None, doc="layers, where a list of heads does not say")
    query_heads: int | None = chz.field(default=None, doc="query heads a layer, where the file does not say")
    kv_heads: int | None = chz.field(default=None, doc="key-value heads a layer, where the file does not say")
    source: str | None = chz.field(default=None, doc="format of RUN, where neither name nor content tells")
    extra: tuple[str, ...] = chz.field(default=(), doc="options of the format alone, as name:value,name:value")

    @chz.validate
    def _counted(self) -> None:
        at_most(self)


MOST = 12
"""Files that are named one by one."""
ASIDE = ("run", "format", "score", "out", "tiebreak", "source", "extra", "layers", "kv_heads")


@dataclass(frozen=True)
class Exported:
    """The files written, and what their provenance file says."""

    files: tuple[Path, ...]
    provenance: Mapping[str, Any]

    def __rich__(self) -> Any:
        """The lines in the terminal."""
        from rich.console import Group
        from rich.text import Text

        from workbench.exporters.told import lines

        folder = str(self.files[0].parent) if self.files else ""
        wrote = [f"wrote {path}" for path in self.files]
        if len(wrote) > MOST:
            wrote = [f"wrote {len(wrote):,} files in {folder}"]
        return Group(*map(Text, wrote + lines(self.provenance, folder)))

    def summary(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"files": [str(path) for path in self.files], "provenance": dict(self.provenance)}


def run(config: Export) -> Exported:
    """Read the scores, write the format. Raises BadInput in one line."""
    from workbench.exporters import export, named
    from workbench.exporters.provenance import PROVENANCE
    from workbench.head_metrics import FILE as METRICS
    from workbench.scores_io import read_scores
    from workbench.unasked import named_by
    from workbench.untrusted import read_json

    exporter = named(config.format)
    shape = _shape(config)
    scores = read_scores(
        config.run, shape["kv_heads"], format=config.source, layers=shape["layers"], heads=shape["heads"]
    )
    if config.score is not None:
        scores = _named(Path(config.run), config.score, scores)
    options = {name: value for name, value in chz.asdict(config).items() if name not in ASIDE and value is not None}
    options |= _extra(config.extra, exporter)
    if "run" in exporter.own_options and (Path(config.run) / METRICS).is_file():
        options.setdefault("run", config.run)
    if config.tiebreak is not None:
        options["tiebreak"] = read_scores(config.tiebreak)
    if "validation" in exporter.options:
        options["validation"] = _validation(Path(config.run))
    unsaid = config.recall is not None and config.model is None
    if unsaid:
        options["model"] = _model_of(Path(config.run))
    with named_by(config.run if unsaid else None):
        files = export(scores, config.format, config.out or _beside(Path(config.run), config.format), **options)
    facts = next((path for path in files if path.name == PROVENANCE), None)
    return Exported(tuple(files), read_json(facts) if facts else {})


def _named(path: Path, name: str, beside: HeadScores) -> HeadScores:
    """Another score of a run of atlas, of the same model as the one in scores.json. Raises BadInput for unknown names."""
    from workbench.errors import did_you_mean
    from workbench.head_metrics import FILE, read_metrics

    if not (path / FILE).is_file():
        raise BadInput(f"score={name}: {path} holds one score only; runs of atlas hold several")
    known = {m.name: m.values for m in read_metrics(path).metrics}
    if name not in known:
        raise BadInput(f"score={name}: {path} has {', '.join(known)}.{did_you_mean(name, known)}")
    asked = {key: value for key, value in beside.parameters.items() if key not in ("version", "n")}
    return replace(
        beside, values=known[name], per_sample=None, groups=None, method=f"atlas/{name}", parameters=asked
    )  # fmt: skip


def _shape(config: Export) -> dict[str, int | None]:
    """Layers and heads as typed, else the model's."""
    typed = {"layers": config.layers, "heads": config.query_heads, "kv_heads": config.kv_heads}
    if config.model is None:
        return typed
    from workbench.geometry import of_model

    found = of_model(config.model)
    known = {"layers": found.layers, "heads": found.heads, "kv_heads": found.kv_heads}
    return {name: known[name] if value is None else value for name, value in typed.items()}


def _extra(words: tuple[str, ...], exporter: Exporter) -> dict[str, Any]:
    """`name:value` options of a format, cast to the types that its writer declares."""
    from typing import get_type_hints

    from workbench.casting import NotThat, cast

    kinds = get_type_hints(exporter.write)
    found: dict[str, Any] = {}
    for word in words:
        name, sign, text = word.partition(":")
        if not sign or name not in exporter.own_options:
            takes = ", ".join(exporter.own_options) or "none"
            raise BadInput(f"extra={word}: format={exporter.name} takes name:value of {takes}")
        try:
            found[name] = cast(text, kinds[name])
        except NotThat as fault:
            raise BadInput(f"extra={word}: {fault}") from None
    return found


def _model_of(path: Path) -> str | None:
    """The model of a run's question, or None."""
    if not (path / "run.json").is_file():
        return None
    from workbench.run_record import read_run

    return read_run(path)["question"].get("model")


def _validation(path: Path) -> Any:
    """The causal check that a finished run recorded, or None."""
    if not (path / "run.json").is_file():
        return None
    from workbench.run_record import read_run

    found = (read_run(path).get("summary") or {}).get("validation")
    return None if found == "not validated" else found


def _beside(path: Path, name: str) -> Path:
    if (path / "run.json").is_file():
        return path / name
    return Path(f"{path.stem if path.is_file() else path.resolve().name}-{name}")


COMMAND = Command("export", "head scores as serving configs", Export, run, positional=("run",))
