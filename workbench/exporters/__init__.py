"""Formats that head scores can be written in and read from: one file each, found by scanning this package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput, did_you_mean
from workbench.exporters.cutting import Cutting
from workbench.exporters.provenance import PROVENANCE, Shape, check_origin, with_digests
from workbench.exporters.split import Level, split
from workbench.heads import HeadScores
from workbench.recall_cut import Told
from workbench.scores_io import write_files

if TYPE_CHECKING:
    from workbench.models import Model

CUTTING = tuple(field.name for field in fields(Cutting))
BESIDE = ("validation", "model", "told", "tiebreak", "samples", "seed")
"""Options that every format with a cut takes and that are no option of the cut."""


@dataclass(frozen=True)
class Written:
    """The files of a format, by name, and what the reader of the list should be told.

    about: the provenance, where the format holds another cut than the one that it was given.
    """

    files: Mapping[str, bytes]
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Exporter:
    """One format.

    help: what it is and who reads it, in one line. marker: the file name by which a folder in this format is
    recognised; also: other names, with `*`. write: (Split, or HeadScores where level is None, **options) -> Written;
    its keyword-only arguments are the options of the format alone. read: (file, Shape) -> scores. Both raise BadInput
    in one line. level: the heads that it names; None: it holds scores, not a cut. gates: whether it can hold them
    uncut. claims: whether a JSON value of unknown name is in this format. use: how a server is told, with {sparsity},
    {sink_size} and {recent_size}; the files are in FOLDER. side_car: the file that says where the others are from.
    """

    name: str
    help: str
    marker: str
    write: Callable[..., Written]
    read: Callable[[Path, Shape], HeadScores]
    level: Level | None = None
    gates: bool = False
    also: tuple[str, ...] = ()
    claims: Callable[[Any], bool] | None = None
    use: str = ""
    side_car: str = PROVENANCE

    @property
    def own_options(self) -> tuple[str, ...]:
        """Names of the options of this format alone."""
        parameters = inspect.signature(self.write).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of all options."""
        shared = () if self.level is None else (*CUTTING, *BESIDE)
        return tuple(n for n in (*shared, *self.own_options) if self.gates or n != "gates")


def discover() -> dict[str, Exporter]:
    """Formats by name, sorted. Raises RuntimeError if two modules claim one name."""
    found: dict[str, Exporter] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        exporter = getattr(importlib.import_module(module.name), "EXPORTER", None)
        if not isinstance(exporter, Exporter):
            continue
        if exporter.name in found:
            raise RuntimeError(f"{module.name} defines {exporter.name!r}, which is taken")
        found[exporter.name] = exporter
    return dict(sorted(found.items()))


def named(format: str) -> Exporter:
    """A format by name. Raises BadInput for an unknown one."""
    formats = discover()
    if format not in formats:
        raise BadInput(f"no format {format!r}: use {', '.join(formats)}.{did_you_mean(format, formats)}")
    return formats[format]


def export(scores: HeadScores, format: str, out: str | Path, **options: Any) -> list[Path]:
    """Write scores into the folder `out` in a format that `discover()` lists; returns the files written.

    options: those of the cut (`exporters.cutting.Cutting`), where the format holds one, and of the format alone.
    model=: check the scores against a model, or against its config where they are unverified. told=: recall of lists of
    query heads (`recall_cut.Told`) for recall=; with model= alone bundled needles are asked, samples= of them for the
    search and as many for the report, drawn by seed=. tiebreak=: scores that order equal ones. validation=: what is
    known of the causal check. Raises BadInput for an unknown format or option, scores that the format cannot hold,
    another model's scores, and a folder that holds files of another origin.
    """
    exporter = named(format)
    for name in options:
        if name not in exporter.options:
            takes = f"takes {', '.join(exporter.options)}" if exporter.options else "takes no options"
            raise BadInput(f"format={format} has no {name}=: it {takes}.{did_you_mean(name, exporter.options)}")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: out= names the folder to write in")
    own = {name: value for name, value in options.items() if name in exporter.own_options}
    if exporter.level is None:
        files = exporter.write(scores, **own).files
    else:
        files = _cut_files(exporter, scores, {n: v for n, v in options.items() if n not in own}, own)
    check_origin(folder, files, exporter.side_car, format)
    return write_files(folder, files)


def _cut_files(
    exporter: Exporter, scores: HeadScores, shared: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, bytes]:
    """The files of a format that holds a cut, provenance.json last."""
    options, aside = ({n: v for n, v in shared.items() if (n in CUTTING) == cuts} for cuts in (True, False))
    if (model := aside.get("model")) is not None:
        scores, aside["model"] = _fitted(scores, model, options)
    if (second := aside.get("tiebreak")) is not None:
        scores = _with_second(scores, second)
    how = Cutting.of(scores, options)
    told = aside.get("told") or _needles(how, aside)
    parts = split(scores, exporter.level or "kv", how, told, aside.get("validation"))
    made = exporter.write(parts, **own)
    about = parts.about() if made.about is None else made.about
    sparsity = about["cut"].get("sparsity")
    use = exporter.use.format(sparsity="S" if sparsity is None else f"{sparsity:.17g}", **about["window"])
    about = {"format": exporter.name, **about, "notes": list(made.notes), "use": use}
    return {**made.files, PROVENANCE: with_digests(about, made.files)}


def _fitted(
    scores: HeadScores, model: str | Path | Model, options: dict[str, Any]
) -> tuple[HeadScores, str | Path | Model]:
    """Scores checked against the model; options gain its query heads. The model is loaded where it will be asked."""
    from workbench.geometry import fitted

    if options.get("recall") is not None:
        from workbench.models import load

        model = load(model, str(scores.parameters.get("dtype", "float32")))
    scores, found = fitted(scores, model)
    options.setdefault("query_heads", found.heads)
    return scores, model


def _with_second(scores: HeadScores, second: HeadScores) -> HeadScores:
    """Scores whose ties the second ones break, reduced to key-value heads where these are."""
    if second.values.shape != scores.values.shape and scores.kv_heads == scores.n_heads:
        second = replace(second, kv_heads=second.kv_heads or scores.n_heads).to_kv_heads()
    return replace(scores, tiebreak=second.values)


def _needles(how: Cutting, aside: Mapping[str, Any]) -> Told | None:
    """What recall= asks the model, None where nothing is asked or nobody is there to be asked."""
    if how.recall is None or aside.get("model") is None:
        return None
    from workbench.needle_recall import SAMPLES, needle_recall

    samples, seed = aside.get("samples") or SAMPLES, aside.get("seed") or 0
    return needle_recall(aside["model"], how.sink_size, how.recent_size, samples, how.context, seed)
