"""Head scores from and to files: the published one-line layout, its side-car, and every import format.

Published layout (github nightdessert/Retrieval_Head, `head_score/`): one JSON line
`{"layer-head": [score of each accepted sample, …], …}`, layer-major, query heads, no final newline.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import atomic, untrusted
from workbench.errors import BadInput
from workbench.heads import HeadScores
from workbench.inside import inner
from workbench.jsonable import dumps, jsonable
from workbench.score_checks import check_size
from workbench.scores_record import FORMAT, about, about_fields, from_json

if TYPE_CHECKING:
    from workbench.models import Model

SCORES = "scores.json"
ABOUT = "scores.meta.json"
_KEY = re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII)


def read_scores(
    path: str | Path,
    kv_heads: int | None = None,
    *,
    format: str | None = None,
    layers: int | None = None,
    heads: int | None = None,
    model: str | Path | Model | None = None,
) -> HeadScores:
    """Scores from a run folder, or a file or folder in any format that `workbench formats` lists.

    kv_heads, layers, heads (query heads): where the file does not say how many there are. What a file leaves out is NaN,
    except in lists of heads, where it is 0. format: where neither name nor content tells. model: check the scores
    against it, and take its shape. Raises BadInput in one line if there is nothing to read, it is damaged, or it is
    another model's.
    """
    from workbench.exporters.provenance import Shape, beside, identity, shape
    from workbench.exporters.recognising import recognise
    from workbench.run_record import check_folder

    path = Path(path)
    if not os.path.exists(path):  # unlike Path.exists, no error for names that no file can have
        raise BadInput(f"{path} does not exist: name a run folder or a score file")
    check_folder(path)
    file, read = recognise(path, format)
    known, asked = beside(file), Shape(layers, heads, kv_heads)
    if model is not None:
        from workbench.geometry import fitted, of_model

        found = of_model(model)
        asked = asked.filled(Shape(found.layers, found.heads, found.kv_heads))
    scores = read(file, asked.filled(shape(known)))
    if scores.model is None and known:
        scores = replace(scores, model=identity(known))
    if kv_heads is not None and scores.kv_heads not in (None, kv_heads):
        raise BadInput(f"{path} has {scores.kv_heads} key-value heads, not kv_heads={kv_heads}")
    if kv_heads is not None:
        scores = replace(scores, kv_heads=kv_heads)
    return scores if model is None else fitted(scores, model)[0]


def read_published(path: Path) -> HeadScores:
    """Scores in the published layout, with the side-car if there is one; or a whole record of this workbench."""
    record = read_json(path)
    if record.get("format") == FORMAT:
        return from_json(record, path)
    samples = _samples(path, record)
    side = path.with_name(ABOUT) if path.name == SCORES else None
    if side is None or not side.is_file():
        return HeadScores.from_samples(samples, "imported/scores-json", parameters={"file": path.name})
    known = read_json(side)
    fields = about_fields(known, side)
    n, tie = known.get("n"), known.get("tiebreak")
    # Scores without samples stand there as one sample each; samples of unscored heads only leave no number behind.
    if known.get("shape") != list(samples.shape[1:]) or len(samples) not in (0, 1 if n is None else n):
        said = f"{known.get('shape')} layers and heads, {n} samples"
        raise BadInput(f"{side} is not about this {path.name}: it says {said}")
    if n is not None and (type(n) is not int or n < 0):
        raise BadInput(f"{side} is damaged: n is no number of samples")
    check_size(side, samples.shape[1], samples.shape[2], n or 1)
    if n and not len(samples):
        samples = np.full((n, *samples.shape[1:]), np.nan)
    try:
        fields["tiebreak"] = None if tie is None else np.array(tie, dtype=float)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{side} is damaged: tiebreak: {' '.join(str(error).split())}") from None
    if n is None:
        return HeadScores(samples[0] if len(samples) else np.full(samples.shape[1:], np.nan), **fields)
    return HeadScores.from_samples(samples, **fields)


def published_text(scores: HeadScores) -> str:
    """The published layout, byte for byte: all heads, layer-major, zeros as `0`; an unscored head has no sample.

    Scores without samples are written as one sample each (the layout knows nothing else).
    """
    samples = scores.values[None] if scores.per_sample is None else scores.per_sample
    lists = {
        f"{layer}-{head}": [0 if x == 0 else x for x in samples[:, layer, head].tolist()] if on else []
        for (layer, head), on in np.ndenumerate(scores.scored)
    }
    return json.dumps(lists, allow_nan=False)


def score_files(scores: HeadScores) -> dict[str, str]:
    """What a run folder stores, text by file name: the published layout and the side-car with all the rest."""
    n = None if scores.per_sample is None else scores.n
    rest = {**about(scores), "n": n, "tiebreak": jsonable(scores.tiebreak)}
    return {SCORES: published_text(scores), ABOUT: dumps(rest, indent=1) + "\n"}


def write_scores(scores: HeadScores, path: str | Path) -> Path:
    """Write exactly the published layout. Raises BadInput if the place cannot be written."""
    path = Path(path)
    write_files(path.parent, {path.name: published_text(scores).encode()})
    return path


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files whole or not at all, making the folder. Raises BadInput if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            place = inner(folder, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(place, data)
    except OSError as error:
        raise BadInput(f"cannot write in {folder} ({error.strerror}): name another place with out=") from None
    return [folder / name for name in files]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file: no NaN, no key twice. Raises BadInput in one line."""
    record = untrusted.read_json(path, "a score file", untrusted.LARGEST)
    if not isinstance(record, dict):
        raise BadInput(f'{path} is not a score file: {{"layer-head": [scores]}} is needed')
    return record


def _samples(path: Path, lists: dict[str, Any]) -> np.ndarray:
    """[samples, layers, heads] of the published layout; heads that are missing or empty are NaN."""
    heads: dict[tuple[int, int], list[Any]] = {}
    for key, scores in lists.items():
        if not (match := _KEY.fullmatch(key)) or not isinstance(scores, list):
            raise BadInput(f'{path}: {key!r} is no "layer-head": [scores] entry')
        if not all(type(x) in (int, float) and abs(x) < math.inf for x in scores):
            raise BadInput(f"{path}: head {key} holds something that is no finite number")
        if heads.setdefault((int(match[1]), int(match[2])), scores) is not scores:
            raise BadInput(f"{path}: head {key} stands there twice")
    lengths = {len(scores): f"{layer}-{head}" for (layer, head), scores in heads.items() if scores}
    if len(lengths) > 1:
        (n, one), (m, other) = list(lengths.items())[:2]
        raise BadInput(f"{path}: head {one} has {n} samples and head {other} has {m}: all heads need the same samples")
    shape = tuple(1 + max((head[axis] for head in heads), default=-1) for axis in (0, 1))
    check_size(path, shape[0], shape[1], max(1, next(iter(lengths), 0)))
    samples = np.full((next(iter(lengths), 0), *shape), np.nan)
    for (layer, head), scores in heads.items():
        if scores:
            samples[:, layer, head] = _numbers(path, scores)
    return samples


def _numbers(path: Path, scores: list[Any]) -> list[float]:
    try:
        return [float(x) for x in scores]
    except OverflowError:
        raise BadInput(f"{path}: a score is too large for a number") from None
