"""Hugging Face hybrid configs: `layer_types` and `sliding_window` (vLLM's hybrid allocator follows them).

Sliding layers keep no sink tokens there, and a layer slides as a whole.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.layers import whole_layers
from workbench.exporters.model_config import config_file, merged, shape_of
from workbench.exporters.patterns import pattern_scores
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.untrusted import read_json

FILE = "layer_types.json"
TYPES = ("sliding_attention", "full_attention")


def write(split: Split, *, share: float = 0.0, force: bool = False, config: str | None = None) -> Written:
    """The two keys alone, or with config= inside the model's config.json. See `layers.whole_layers`."""
    layers = whole_layers(split, share, force)
    made = {
        "layer_types": [TYPES[int(full)] for full in layers.full],
        "sliding_window": split.how.window,
        "layer_types_provenance": (about := layers.written(split).about()),
    }
    notes = (layers.note(split.full.size), f"sliding layers keep the last {split.how.window} tokens and no sink tokens")
    return Written({FILE if config is None else "config.json": config_file(merged(config, made, split))}, notes, about)


def read(path: Path, shape: Shape) -> HeadScores:
    """1 for heads of full layers. Raises BadInput for other types, or where the number of heads is not known."""
    record = read_json(path)
    types = record.get("layer_types") if isinstance(record, dict) else None
    if not isinstance(types, list) or not types or not all(t in TYPES for t in types):
        raise BadInput(f"{path} has no layer_types of {' and '.join(TYPES)}")
    layers, heads = shape.filled(shape_of(record)).filled(Shape(len(types))).grid(path, "kv")
    if layers != len(types):
        raise BadInput(f"{path} has {len(types)} layers, the model has {layers}")
    full = np.array([[float(t == TYPES[1])] * heads for t in types])
    sliding = record.get("sliding_window")
    sizes = {"sink_size": 0, "recent_size": sliding} if type(sliding) is int and sliding > 0 else {}
    return pattern_scores(full, "imported/hf-layers", sizes, heads)


EXPORTER = Exporter(
    name="hf-layers",
    help="layer_types, refused where it cuts a full head: Hugging Face hybrid models, vLLM",
    marker=FILE,
    write=write,
    read=read,
    level="kv",
    claims=lambda value: isinstance(value, dict) and "layer_types" in value and "headwise_config" not in value,
    use="put layer_types and sliding_window into the model's config.json (extra=config:MODEL/config.json writes it merged)",
)
