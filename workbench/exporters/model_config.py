"""A model's config.json with more in it: never over what is there, never for a model of another shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.geometry import of_config
from workbench.jsonable import dumps
from workbench.untrusted import read_json


def merged(config: str | None, made: Mapping[str, Any], split: Split) -> dict[str, Any]:
    """What was made, inside the record of the config file if there is one.

    Raises BadInput where the model has another shape than the list, or its config holds one of the keys.
    """
    if config is None:
        return dict(made)
    record = read_json(Path(config), "a model's config")
    if not isinstance(record, dict):
        raise BadInput(f"config={config} is no model's config: it is not a JSON object")
    shape = of_config(record, config)
    per_kv = split.query_heads is None
    given = split.scores.n_heads if per_kv else split.query_heads
    if (shape.layers, shape.kv_heads if per_kv else shape.heads) != (split.scores.n_layers, given):
        ours = f"{split.scores.n_layers} layers × {given} {'key-value ' if per_kv else ''}heads"
        raise BadInput(f"the list is for {ours}, but {shape}: it is another model's")
    if held := sorted(record.keys() & made.keys()):
        raise BadInput(f"config={config} holds {held[0]} already: take it out first")
    return {**record, **made}


def shape_of(record: Mapping[str, Any]) -> Shape:
    """The shape that the record of a config names, if it does."""
    try:
        found = of_config(record, "")
    except BadInput:
        return Shape()
    return Shape(found.layers, found.heads, found.kv_heads)


def config_file(record: Mapping[str, Any]) -> bytes:
    """Its text."""
    return (dumps(record, indent=2) + "\n").encode()
