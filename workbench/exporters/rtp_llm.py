"""RTP-LLM's head-wise attention: `headwise_config` in the model's config.json, one 0/1 per query head and layer.

1 = retrieval head = full attention, 0 = sink + sliding window. Prefill compute only: no key or value is dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.model_config import config_file, merged, shape_of
from workbench.exporters.patterns import pattern_scores, rows_of_bits
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.untrusted import read_json

FILE, KEY = "headwise_config.json", "headwise_config"
SIZES = ("sink_token_num", "swa_token_num", "seqlen_threshold")


def write(split: Split, *, seqlen_threshold: int = 16384, config: str | None = None) -> Written:
    """The object alone, or with config= the model's config.json with it inside.

    seqlen_threshold: shorter sequences use full attention in every head. Raises BadInput for a config of another shape,
    or one that holds such an object.
    """
    how = split.how
    sizes = dict(zip(SIZES, (how.sink_size, how.recent_size, seqlen_threshold), strict=True))
    rows = {str(i): [int(x) for x in row] for i, row in enumerate(split.full)}
    made = {KEY: {**sizes, **rows}, f"{KEY}_provenance": split.about()}
    return Written({FILE if config is None else "config.json": config_file(merged(config, made, split))})


def read(path: Path, shape: Shape) -> HeadScores:
    """1 for full heads, 0 for others. Raises BadInput for ragged rows, missing layers and other values."""
    record = read_json(path)
    held = record.get(KEY) if isinstance(record, dict) else None
    if not isinstance(held, dict):
        raise BadInput(f"{path} holds no {KEY}")
    layers = {name: row for name, row in held.items() if name not in SIZES}
    if sorted(layers) != sorted(map(str, range(len(layers)))):
        raise BadInput(
            f"{path}: {KEY} names layers {', '.join(sorted(layers)[:4])} …: 0 to the last are needed, each once"
        )
    pattern = rows_of_bits(path, [layers[str(i)] for i in range(len(layers))])
    sizes = {
        ours: held[theirs] for ours, theirs in zip(("sink_size", "recent_size"), SIZES) if _count(held.get(theirs))
    }
    return pattern_scores(pattern, "imported/rtp-llm", sizes, shape.filled(shape_of(record)).kv_heads)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


EXPORTER = Exporter(
    name="rtp-llm",
    help="headwise_config of query heads, alone or in a model's config.json: RTP-LLM",
    marker=FILE,
    write=write,
    read=read,
    level="query",
    claims=lambda value: isinstance(value, dict) and KEY in value,
    use="put headwise_config into the model's config.json (extra=config:MODEL/config.json writes it merged)",
)
