"""FlexAttention: a small Python file with the mask of every layer, runnable as it is.

mask_mod(b, h, q, kv) = kv <= q and (full[h] or kv < sink or q - kv < recent), per query head.
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.patterns import pattern_scores, rows_of_bits
from workbench.exporters.provenance import Shape
from workbench.exporters.split import Split
from workbench.heads import HeadScores
from workbench.jsonable import dumps
from workbench.option_values import MOST
from workbench.untrusted import read_text

FILE = "head_mask.py"
NAMES = ("SINK", "RECENT", "FULL")
_LARGEST = 1 << 20
"""Bytes: parsing takes a hundred times as much, and 128 layers of 128 heads have 50 kB."""
CODE = '''"""Masks of full and streaming query heads for torch.nn.attention.flex_attention.

    block_mask = create_block_mask(mask_mod(layer), None, n_heads, n, n, device=q.device)
    out = flex_attention(q, k, v, block_mask=block_mask, enable_gqa=True)

Streaming heads see the first SINK and the last RECENT tokens, their own included. Positions count from the sequence's
first token: no left padding. FULL: layers x query heads, 1 = full.
"""

import json

import torch

SINK = {sink}
RECENT = {recent}
FULL = [
{rows}
]
PROVENANCE = json.loads({provenance!r})


def check(config):
    """Raise ValueError unless a Hugging Face config has these layers and query heads."""
    shape = (config.num_hidden_layers, config.num_attention_heads)
    if shape != (len(FULL), len(FULL[0])):
        raise ValueError(f"masks of {{len(FULL)}} layers x {{len(FULL[0])}} heads, but the model has {{shape}}")


def mask_mod(layer, device="cpu"):
    """The mask of a layer, for create_block_mask."""
    full = torch.tensor(FULL[layer], dtype=torch.bool, device=device)

    def mask(b, h, q, kv):
        return (kv <= q) & (full[h] | (kv < SINK) | (q - kv < RECENT))

    return mask
'''


def write(split: Split) -> Written:
    """The file."""
    rows = "\n".join(f"    {[int(x) for x in row]}," for row in split.full)
    how, known = split.how, dumps(split.about())
    text = CODE.format(sink=how.sink_size, recent=how.recent_size, rows=rows, provenance=known)
    return Written({FILE: text.encode()})


def read(path: Path, shape: Shape) -> HeadScores:
    """The pattern, out of the text: the file is parsed and never run. Raises BadInput where it is not such a file."""
    found: dict[str, Any] = {}
    try:
        with warnings.catch_warnings(action="ignore"):  # about the style of the text
            body = ast.parse(read_text(path, "a Python file", _LARGEST)).body
        for node in body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in NAMES:
                found[node.targets[0].id] = ast.literal_eval(node.value)
    except BadInput:
        raise
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise BadInput(f"{path} is no mask file: {' '.join(str(error).split())[:200]}") from None
    if set(found) != set(NAMES) or not isinstance(found["FULL"], list):
        raise BadInput(f"{path} is no mask file: it needs {', '.join(NAMES)}")
    sizes: dict[str, Any] = {"sink_size": found["SINK"], "recent_size": found["RECENT"]}
    if not all(type(size) is int and 0 <= size <= MOST for size in sizes.values()):
        raise BadInput(f"{path}: SINK and RECENT are no numbers of tokens")
    return pattern_scores(rows_of_bits(path, found["FULL"]), "imported/mask-mod", sizes, shape.kv_heads)


EXPORTER = Exporter(
    name="mask-mod",
    help="a Python file with the mask of query heads: torch FlexAttention",
    marker=FILE,
    write=write,
    read=read,
    level="query",
    use='in Python, from FOLDER: "from head_mask import mask_mod", then create_block_mask(mask_mod(layer), None, H, N, N)',
)
