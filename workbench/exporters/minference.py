"""MInference patterns: per layer {query head: [type, a, b, score]} (arXiv 2407.02490; also vLLM V0, Qwen2.5-1M).

"vertical_and_slash": a columns, b diagonals; "stream_llm": a first, b last tokens; "block_sparse": its best 100 blocks.
Prefill only: decoding is dense. A head that a file leaves out is ["vertical_and_slash", 1000, 6096, 1].
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.patterns import pattern_scores
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.score_checks import check_size
from workbench.untrusted import read_json

FILE, VLLM_FILE = "minference.json", "sparse_attention_config.json"
KINDS = ("vertical_and_slash", "stream_llm", "block_sparse")
DEFAULT = ("vertical_and_slash", 1000, 6096, 1.0)


@dataclass(frozen=True)
class ReadPattern:
    """What one query head reads in the prefill. a, b: columns and diagonals, or first and last tokens."""

    kind: str
    a: int
    b: int
    score: float


def write(
    split: Split, *, vertical: int = DEFAULT[1], slash: int = DEFAULT[2], exact: int | None = None, vllm: bool = False
) -> Written:
    """Streaming heads read sink and recent tokens, full ones `vertical` columns and `slash` diagonals.

    exact: the longest context that is served, so that full heads read everything instead. vllm: name the file as vLLM
    V0 looks for it in the model's folder.
    """
    if min(vertical, slash, 1 if exact is None else exact) < 1:
        raise BadInput(f"vertical={vertical}, slash={slash}, exact={exact}: give numbers from 1")
    far, how = (vertical, slash) if exact is None else (exact, exact), split.how
    scores = np.nan_to_num(split.scores.values)
    full = [[ReadPattern("vertical_and_slash", *far, float(s)) for s in row] for row in scores]
    near = ReadPattern("stream_llm", how.sink_size, how.recent_size, 0.0)
    rows = [[f if on else near for f, on in zip(*pair, strict=True)] for pair in zip(full, split.full, strict=True)]
    note = "vLLM reads it in its V0 engine only" if vllm else "prefill only: decoding stays dense"
    return Written({VLLM_FILE if vllm else FILE: text(rows)}, (note,))


def text(rows: list[list[ReadPattern]]) -> bytes:
    """The file of a table of patterns, [layers][query heads]."""
    return json.dumps([{str(h): [p.kind, p.a, p.b, p.score] for h, p in enumerate(row)} for row in rows]).encode()


def read_patterns(path: Path, heads: int | None = None) -> list[list[ReadPattern]]:
    """The table in a file; heads that it leaves out get the default. Raises BadInput in one line.

    heads: query heads a layer, where the file may leave out the last ones.
    """
    layers = read_json(path)
    if not _claims(layers):
        raise BadInput(f'{path} is no MInference config: a list with {{"head": [type, a, b, score]}} for each layer')
    known = [{_head(path, i, key): _pattern(path, i, key, x) for key, x in row.items()} for i, row in enumerate(layers)]
    wide = max(max(row, default=0) for row in known) + 1
    check_size(path, len(known), heads or wide)
    if heads is not None and wide > heads:
        raise BadInput(f"{path} names head {wide - 1}: heads={heads} has none")
    return [[row.get(h, ReadPattern(*DEFAULT)) for h in range(heads or wide)] for row in known]


def read(path: Path, shape: Shape) -> HeadScores:
    """1 for query heads that may read far back, 0 for stream_llm. See `read_patterns` for the whole table."""
    rows = read_patterns(path, shape.heads)
    counts = dict(sorted(Counter(f"{p.kind} {p.a} {p.b}" for row in rows for p in row).items()))
    far = np.array([[float(p.kind != "stream_llm") for p in row] for row in rows])
    return pattern_scores(far, "imported/minference", {"patterns": counts}, shape.kv_heads)


def _head(path: Path, layer: int, key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) < 6):
        raise BadInput(f"{path}: layer {layer}: {key!r} is no head")
    return int(key)


def _pattern(path: Path, layer: int, head: str, held: Any) -> ReadPattern:
    if (
        isinstance(held, list) and len(held) == 4 and held[0] in KINDS
        and all(type(x) is int and x >= 0 for x in held[1:3]) and type(held[3]) in (int, float)
    ):  # fmt: skip
        return ReadPattern(held[0], held[1], held[2], float(held[3]))
    raise BadInput(
        f"{path}: layer {layer}, head {head}: {str(held)[:60]} is no [type, a, b, score] of {', '.join(KINDS)}"
    )


def _claims(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


EXPORTER = Exporter(
    name="minference",
    help="read patterns of query heads in the prefill: MInference; vLLM V0, Qwen2.5-1M (vllm:true)",
    marker=FILE,
    also=(VLLM_FILE,),
    write=write,
    read=read,
    level="query",
    claims=_claims,
    use=(
        f'in Python: MInference("minference", MODEL, config_path="FOLDER/{FILE}"); '
        f"vLLM: extra=vllm:true writes FOLDER/{VLLM_FILE}"
    ),
)
