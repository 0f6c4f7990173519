"""DuoAttention patterns (DuoAttention, LServe/OmniServe, kvpress): which key-value heads keep the whole cache.

`full_attention_heads.tsv`: layers × key-value heads, 1 = full attention, 0 = streaming (sink + recent window);
`config.json`: sink_size, recent_size; `provenance.json`: where the pattern comes from. Loaders cut gates at a
quantile with random ties, so a 0/1 file with `sparsity` beside it is what all of them read alike.
"""

from __future__ import annotations

import io
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.errors import BadInput
from workbench.exporters import Exporter
from workbench.exporters.cut import cut
from workbench.heads import HeadScores
from workbench.jsonable import dumps
from workbench.scores_io import read_json, write_files
from workbench.scores_record import about

GATES, CONFIG, PROVENANCE = "full_attention_heads.tsv", "config.json", "provenance.json"
METHOD = "imported/duo-attention"
WINDOW = {"sink_size": 128, "recent_size": 256}  # of the published training runs; their evaluation uses 64 + 256
THRESHOLD = 0.1  # the retrieval-head threshold, for scores that name none


def write(
    scores: HeadScores,
    folder: Path,
    *,
    sparsity: float | None = None,
    threshold: float | None = None,
    gates: bool = False,
    unscored: str = "refuse",
    sink_size: int | None = None,
    recent_size: int | None = None,
    validation: Any = None,
) -> list[Path]:
    """Write the pattern: cut at a share of streaming heads, at a threshold, or as raw gates.

    Without sparsity, threshold or gates the scores' own `threshold` parameter is used, else 0.1. Query heads are
    reduced to key-value heads by max. unscored: "refuse", or "full" to keep heads without a score full.
    validation: what is known of the causal check; None is written as "not validated".
    Raises BadInput for contradicting options, unscored heads, unknown kv_heads or a folder of another origin.
    """
    if sum((sparsity is not None, threshold is not None, gates)) > 1:
        raise BadInput("sparsity=, threshold= and gates=true are three ways to cut: give one")
    _check_unscored(scores, unscored)
    window = {
        name: _size(scores, name, given) for name, given in (("sink_size", sink_size), ("recent_size", recent_size))
    }
    kv = _kv_level(scores)
    if gates:
        pattern: np.ndarray = np.where(kv.scored, kv.values, 1.0)
        made: dict[str, Any] = {"rule": "raw gates, not cut", "unscored": int((~kv.scored).sum())}
        config: dict[str, Any] = dict(window)
    else:
        if threshold is None:
            threshold = float(scores.parameters.get("threshold", THRESHOLD))
        parts = cut(kv, sparsity, threshold)
        pattern, made = parts.full.astype(float), parts.to_json()
        config = {**window, "sparsity": parts.sparsity}
    _check_origin(folder)
    files = {GATES: table(pattern), CONFIG: _json(config), PROVENANCE: _json(_provenance(scores, kv, made, validation))}
    return write_files(folder, files)


def read(path: Path) -> HeadScores:
    """Gates of a pattern folder, from its TSV; raw values are kept, ranks use them clipped to 0…1 as loaders do."""
    try:
        rows = [line.split("\t") for line in path.read_text().splitlines()]
        gates = np.array([[float(cell) for cell in row] for row in rows])
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror})") from None
    except ValueError:
        raise BadInput(f"{path} is no table of gates: layers × key-value heads of numbers, tab-separated") from None
    if gates.ndim != 2 or not gates.size or not np.isfinite(gates).all():
        raise BadInput(f"{path} is no table of gates: it is empty or holds NaN")
    config = path.with_name(CONFIG)
    if not config.is_file():
        raise BadInput(f"{config} is missing: a pattern needs sink_size and recent_size from it")
    facts = read_json(config)
    parameters = {name: facts.get(name) for name in WINDOW}
    for name, size in parameters.items():
        if type(size) is not int or size < 0:
            raise BadInput(f"{config} has no whole number for {name}")
    if type(facts.get("threshold")) in (int, float):
        parameters["threshold"] = facts["threshold"]
    return HeadScores(gates, METHOD, parameters, kv_heads=gates.shape[1], clip=(0.0, 1.0))


def table(pattern: Float[np.ndarray, "layers kv"]) -> bytes:
    """The TSV as numpy writes it by default, which is how the published files were written."""
    buffer = io.BytesIO()
    np.savetxt(buffer, pattern, delimiter="\t")
    return buffer.getvalue()


def _provenance(scores: HeadScores, kv: HeadScores, made: dict[str, Any], validation: Any) -> dict[str, Any]:
    known = about(scores)
    return {
        "workbench": version("workbench-interp"),
        "format": EXPORTER.name,
        "polarity": "1 = full attention, 0 = streaming (sink + recent)",
        "method": known["method"],
        "parameters": known["parameters"],
        "model": known["model"] or "unverified",
        "shape": {"layers": kv.n_layers, "kv_heads": kv.n_heads, "query_heads": scores.n_heads},
        "samples": scores.n,
        "groups": scores.n_groups,
        "kv_reduction": kv.parameters["kv_reduction"] if kv.n_heads < scores.n_heads else "none needed",
        "cut": made,
        "validation": "not validated" if validation is None else validation,
    }


def _check_unscored(scores: HeadScores, unscored: str) -> None:
    if unscored not in ("refuse", "full"):
        raise BadInput(f"unscored={unscored} is unknown: use refuse or full")
    missing = int((~scores.scored).sum())
    if missing and unscored == "refuse":
        raise BadInput(f"{missing} of {scores.values.size} heads have no score: unscored=full keeps such heads full")


def _kv_level(scores: HeadScores) -> HeadScores:
    """Scores per key-value head, without one wherever any query head of the group has none."""
    kv = scores.to_kv_heads("max")
    known = scores.scored.reshape(kv.n_layers, kv.n_heads, -1).all(-1)
    return replace(kv, values=np.where(known, kv.values, np.nan))


def _size(scores: HeadScores, name: str, given: int | None) -> int:
    size = int(scores.parameters.get(name, WINDOW[name])) if given is None else given
    least = 1 if name == "recent_size" else 0
    if size < least:
        raise BadInput(f"{name}={size}: give a number of tokens from {least}")
    return size


def _check_origin(folder: Path) -> None:
    """A model's own config.json, or a published pattern, is never written over."""
    taken = [name for name in (GATES, CONFIG) if (folder / name).exists()]
    if taken and not (folder / PROVENANCE).exists():
        raise BadInput(f"{folder / taken[0]} exists and is of another origin: name another folder with out=")


def _json(record: dict[str, Any]) -> bytes:
    return (dumps(record, indent=1) + "\n").encode()


EXPORTER = Exporter(
    name="duo-attention",
    help="full and streaming key-value heads (DuoAttention, LServe/OmniServe, kvpress)",
    marker=GATES,
    write=write,
    read=read,
)
