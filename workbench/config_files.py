"""`config=FILE`: options from a YAML or JSON file, nested or dotted, beneath what is typed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from workbench import untrusted
from workbench.errors import BadInput


def read_config(name: str, keys: Set[str]) -> dict[str, Any]:
    """The file's options by dotted key, nested mappings opened until a known key is met. Raises BadInput."""
    path = Path(name)
    try:
        text = untrusted.text_of(path, untrusted.LARGEST_CONFIG)
    except OSError as error:
        raise BadInput(f"config={name}: cannot read it ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadInput(f"config={name}: not a text file") from None
    if path.suffix == ".json":
        tree = _json(name, text)
    elif path.suffix in (".yaml", ".yml"):
        tree = _yaml(name, text)
    else:
        raise BadInput(f"config={name}: the name must end in .yaml, .yml or .json")
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise BadInput(f"config={name}: must hold options by name, not {type(tree).__name__}")
    return _flat(tree, keys, "", name)


def _json(name: str, text: str) -> Any:
    try:
        return untrusted.parsed(text, object_pairs_hook=untrusted.once)
    except ValueError as error:
        raise BadInput(f"config={name}: not JSON ({error})") from None


def _yaml(name: str, text: str) -> Any:
    if importlib.util.find_spec("yaml") is None:
        raise BadInput(f"config={name}: reading YAML needs PyYAML (pip install pyyaml); or write the file as JSON")
    try:
        return untrusted.parsed_yaml(text)
    except ValueError as error:
        raise BadInput(f"config={name}: {error}") from None


def _flat(tree: Mapping[Any, Any], keys: Set[str], above: str, name: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for word, value in tree.items():
        key = f"{above}{word}"
        inner = _flat(value, keys, f"{key}.", name) if isinstance(value, Mapping) and key not in keys else {key: value}
        twice = flat.keys() & inner.keys()
        if twice:
            raise BadInput(f"config={name}: {min(twice)} is given twice, nested and dotted: give it once")
        flat |= inner
    return flat
