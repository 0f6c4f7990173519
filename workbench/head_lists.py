"""Lists of heads as files: our own, which says what the list is for, and the bare layout of the ACT authors.

The authors' file (Yu et al. 2024) is a list over layers of lists of heads whose first row is layer 2, the first that
they calibrate; it names no model and no setting.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.head_sets import Head, HeadSet
from workbench.jsonable import dumps
from workbench.schema import STAMP, schema_of, stamp
from workbench.untrusted import LARGEST_CONFIG, parsed, text_of

FIRST_LAYER = 2
"""Layer of the first row in the authors' layout."""


def head_list(heads: Iterable[tuple[int, int]], about: Mapping[str, Any]) -> str:
    """Our own layout as text: {"heads": [[layer, head], …], **about}, with its number."""
    return dumps({"heads": [[int(layer), int(head)] for layer, head in heads], **stamp(), **about})


def act_list(heads: Iterable[tuple[int, int]], n_layers: int) -> str:
    """The authors' layout as text. Raises BadInput for heads in layers that it cannot name."""
    rows: list[list[int]] = [[] for _ in range(max(0, n_layers - FIRST_LAYER))]
    for layer, head in sorted(heads):
        if not FIRST_LAYER <= layer < n_layers:
            raise BadInput(
                f"L{layer}H{head}: the authors' layout begins at layer {FIRST_LAYER} and has no place for it"
            )
        rows[layer - FIRST_LAYER].append(head)
    return json.dumps(rows)


def read_heads(path: str | Path) -> HeadSet:
    """A list of heads from a file in either layout, told apart by their shape.

    Raises BadInput, with the place, for anything else.
    """
    try:
        found = parsed(text_of(path, LARGEST_CONFIG))
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror})") from None
    except ValueError as error:
        raise BadInput(f"{path} is no JSON file ({error})") from None
    if isinstance(found, dict):
        schema_of(found, path)
        pairs = found.get("heads")
        if not isinstance(pairs, list) or not all(_row(p) and len(p) == 2 for p in pairs):
            raise BadInput(f"{path}: no list heads of [layer, head] pairs")
        return HeadSet(tuple(Head(layer, head) for layer, head in pairs))
    if not isinstance(found, list) or not all(_row(r) for r in found):
        raise BadInput(f"{path}: neither an object with heads nor a list over layers of lists of heads")
    return HeadSet(tuple(Head(i, head) for i, row in enumerate(found, FIRST_LAYER) for head in row))


def about_list(path: str | Path) -> Mapping[str, Any]:
    """What our own layout says beside the heads; nothing of the authors' layout. For files that `read_heads` reads."""
    found = parsed(text_of(path, LARGEST_CONFIG))
    return {k: v for k, v in found.items() if k not in ("heads", *STAMP)} if isinstance(found, dict) else {}


def _row(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in value)
