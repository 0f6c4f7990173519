"""QRHead configs (arXiv 2506.09944): a YAML file that names query heads, best first, for the retriever's read-out.

Its detection output, a JSON list of ["layer-head", score], is read too, scores and all.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.jsonable import dumps
from workbench.score_checks import check_size
from workbench.untrusted import LARGEST_YAML, parsed_yaml, read_json, read_text

FILE, EVERY = "qrhead.yaml", "full_heads"
_HEAD = re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII)


def write(split: Split, *, base_class: str = "", model_name: str = "") -> Written:
    """The list of full heads. base_class, model_name: model_base_class and model_name_or_path, as QRHead calls them."""
    heads = EVERY if split.full.all() else ",".join(f"{layer}-{head}" for layer, head in split.chosen)
    known = split.source.model.name if split.source.model else ""
    fields = {"attn_head_set": heads, "model_base_class": base_class, "model_name_or_path": model_name or known}
    lines = [f"# {line}" for line in dumps(split.about(), indent=1).splitlines()]
    lines += [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
    return Written({FILE: ("\n".join(lines) + "\n").encode()}, ("a read-out of scores, no cache policy",))


def read(path: Path, shape: Shape) -> HeadScores:
    """A listed head scores n, n - 1, … down to 1, over n, best first; any other 0. Detection output keeps its scores."""
    if path.suffix == ".json":
        return _detected(path, shape)
    try:
        held = parsed_yaml(read_text(path, "a QRHead config", LARGEST_YAML))
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} is no YAML of QRHead: {error}") from None
    listed = held.get("attn_head_set") if isinstance(held, dict) else None
    if not isinstance(listed, str):
        raise BadInput(f"{path} is no QRHead config: it has no text attn_head_set")
    layers, heads = shape.grid(path, "query")
    if listed == EVERY:
        values = np.ones((layers, heads))
    else:
        pairs = [_pair(path, word.strip()) for word in listed.split(",")]
        values = np.zeros((layers, heads))
        for place, (layer, head) in enumerate(_inside(path, pairs, layers, heads)):
            values[layer, head] = 1 - place / len(pairs)
    return HeadScores(values, "imported/qrhead", {"threshold": 1e-9}, kv_heads=shape.kv_heads)


def _detected(path: Path, shape: Shape) -> HeadScores:
    rows = read_json(path)
    if not _claims(rows):
        raise BadInput(f'{path} is no detection output of QRHead: a list of ["layer-head", score] is needed')
    pairs = [_pair(path, name) for name, _ in rows]
    layers = shape.layers or max(layer for layer, _ in pairs) + 1
    heads = shape.heads or max(head for _, head in pairs) + 1
    check_size(path, layers, heads)
    values = np.full((layers, heads), np.nan)
    for (layer, head), (_, score) in zip(_inside(path, pairs, layers, heads), rows, strict=True):
        values[layer, head] = score
    return HeadScores(values, "imported/qrhead-detection", kv_heads=shape.kv_heads)


def _pair(path: Path, word: str) -> tuple[int, int]:
    if not (found := _HEAD.fullmatch(word)):
        raise BadInput(f"{path}: {word[:40]!r} is no layer-head")
    return int(found[1]), int(found[2])


def _inside(path: Path, pairs: list[tuple[int, int]], layers: int, heads: int) -> list[tuple[int, int]]:
    if len(set(pairs)) < len(pairs):
        raise BadInput(f"{path}: a head stands there twice")
    for layer, head in pairs:
        if layer >= layers or head >= heads:
            raise BadInput(f"{path}: there is no head {layer}-{head} among {layers} layers × {heads} heads")
    return pairs


def _claims(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(
        isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and type(row[1]) in (int, float)
        for row in value
    )  # fmt: skip


EXPORTER = Exporter(
    name="qrhead",
    help="ordered list of query heads: QRHead's retriever (github princeton-pli/QRHead)",
    marker=FILE,
    also=("*.yaml", "*.yml"),
    write=write,
    read=read,
    level="query",
    claims=_claims,
    use=f'in Python: AttnBasedRetriever(config_or_config_path="FOLDER/{FILE}")',
)
