"""MindSpore Golden Stick RazorAttention: `retrieval.json`, {"layer": [kv heads]}, layers without heads left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.patterns import by_layer, from_lists, pattern_scores
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.untrusted import read_json

FILE = "retrieval.json"


def write(split: Split) -> Written:
    """The object, indented by 3 as the tool writes it."""
    return Written({FILE: json.dumps({str(k): v for k, v in by_layer(split.full).items()}, indent=3).encode()})


def read(path: Path, shape: Shape) -> HeadScores:
    """1 for listed heads. Raises BadInput for other entries, or where the number of heads is not known."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise BadInput(f'{path} is no list of heads: {{"layer": [kv heads]}} is needed')
    pattern = from_lists(path, record.items(), *shape.grid(path, "kv"))
    return pattern_scores(pattern, "imported/golden-stick", {}, pattern.shape[1])


def _claims(value: Any) -> bool:
    return (
        isinstance(value, dict) and bool(value) and all(k.isdecimal() and isinstance(v, list) for k, v in value.items())
    )


EXPORTER = Exporter(
    name="golden-stick",
    help="retrieval.json of kv heads, RazorAttention: MindSpore Golden Stick",
    marker=FILE,
    write=write,
    read=read,
    level="kv",
    claims=_claims,
    use="give FOLDER/retrieval.json to Golden Stick's RazorAttention",
)
