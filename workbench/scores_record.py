"""HeadScores as JSON in full, and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import BadInput
from workbench.heads import Head, HeadScores, ModelIdentity
from workbench.jsonable import jsonable
from workbench.schema import schema_of, stamp

if TYPE_CHECKING:
    from pandas import DataFrame

FORMAT = "workbench-head-scores"
ARRAYS = ("values", "per_sample", "tiebreak")


def to_json(scores: HeadScores) -> dict[str, Any]:
    """Everything in a HeadScores, in JSON's types; NaN as null."""
    arrays = {name: getattr(scores, name) for name in ARRAYS}
    return {**about(scores), **jsonable(arrays)}


def about(scores: HeadScores) -> dict[str, Any]:
    """All of a HeadScores but its arrays of scores: what a file in the published layout cannot hold."""
    identity = scores.model
    return jsonable(
        {
            "format": FORMAT,
            **stamp(),
            "shape": scores.values.shape,
            "method": scores.method,
            "parameters": scores.parameters,
            "model": identity and {name: getattr(identity, name) for name in ("name", "config_hash", "weights")},
            "groups": scores.groups,
            "kv_heads": scores.kv_heads,
            "skipped_layers": scores.skipped_layers,
            "clip": scores.clip,
        }
    )


def from_json(record: Mapping[str, Any], place: str | Path = "head scores in JSON") -> HeadScores:
    """What `to_json` gave. Raises BadInput on anything else, and where its parts do not fit."""
    fields = about_fields(record, place)
    try:
        shape = tuple(record["shape"])
        values, samples, tie = (_array(record[name]) for name in ARRAYS)
        if samples is not None and not len(samples):
            samples = np.empty((0, *shape))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{place}: damaged head scores: {' '.join(str(error).split())}") from None
    if values is None or values.shape != shape:
        raise BadInput(f"{place}: damaged head scores: shape says {shape}, the values do not")
    return HeadScores(values=values, per_sample=samples, tiebreak=tie, **fields)


def about_fields(record: Mapping[str, Any], place: str | Path = "head scores in JSON") -> dict[str, Any]:
    """Arguments of HeadScores from what `about` gave. place: where it stands. Raises BadInput."""
    if record.get("format") != FORMAT:
        found = record.get("format")
        raise BadInput(f"{place}: not head scores of this workbench: format {FORMAT} is needed, found {found}")
    schema_of(record, place, unsaid=record.get("version"))
    try:
        model, groups, clip = record["model"], record["groups"], record["clip"]
        return {
            "method": str(record["method"]),
            "parameters": dict(record["parameters"]),
            "model": None if model is None else _identity(model),
            "groups": None if groups is None else tuple(map(str, groups)),
            "kv_heads": None if record["kv_heads"] is None else int(record["kv_heads"]),
            "skipped_layers": tuple(map(int, record["skipped_layers"])),
            "clip": None if clip is None else (float(clip[0]), float(clip[1])),
        }
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise BadInput(f"{place}: damaged head scores: {' '.join(str(error).split())}") from None


def to_frame(scores: HeadScores) -> DataFrame:
    """One row per head: layer, head, kv_head, score, low, high, n, rank (from 1; missing where not scored)."""
    import pandas as pd

    layer, head = np.indices(scores.values.shape)
    low, high = scores.interval()
    rank = {found: place for place, found in enumerate(scores.rank(), start=1)}
    kv = None if scores.kv_heads is None else (head * scores.kv_heads // scores.n_heads).ravel()
    return pd.DataFrame(
        {
            "layer": layer.ravel(),
            "head": head.ravel(),
            "kv_head": pd.array([pd.NA] * scores.values.size if kv is None else kv, dtype="Int64"),
            "score": scores.values.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "n": np.where(scores.scored, scores.n, 0).ravel(),
            "rank": pd.array(
                [rank.get(Head(*divmod(i, scores.n_heads)), pd.NA) for i in range(scores.values.size)], "Int64"
            ),
        }
    )


def _identity(model: Mapping[str, Any]) -> ModelIdentity:
    if not isinstance(model, dict) or not all(isinstance(said, str) for said in model.values()):
        raise TypeError("model names no name, config_hash and weights")
    return ModelIdentity(**model)


def _array(nested: Any) -> np.ndarray | None:
    return None if nested is None else np.array(nested, dtype=np.float64)
