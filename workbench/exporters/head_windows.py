"""A window for every key-value head, as `workbench fit-windows` finds it: ours, with two files that others take.

`head_windows.json`: {"sink_size", "context", "windows": [layers][kv heads]}, null for a head that keeps everything.
`window_curves.npy`: the same as LU-KV prune curves (kvpress LUKVPress). `head_windows.py`: a FlexAttention mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from workbench.errors import BadInput
from workbench.exporters import Exporter, Written
from workbench.exporters.lu_kv import curves, curves_file
from workbench.exporters.provenance import PROVENANCE, Shape, with_digests
from workbench.heads import HeadScores
from workbench.jsonable import dumps
from workbench.scores_record import about
from workbench.smallest_windows import METHOD
from workbench.untrusted import read_json
from workbench.versions import versions

FILE, CURVES, MASK = "head_windows.json", "window_curves.npy", "head_windows.py"
CODE = '''"""Masks of heads with windows of their own for torch.nn.attention.flex_attention.

    block_mask = create_block_mask(mask_mod(layer, n_heads), None, n_heads, n, n, device=q.device)
    out = flex_attention(q, k, v, block_mask=block_mask, enable_gqa=True)

A head sees the first SINK tokens and its last ones, its own included. Positions count from the sequence's first token: no
left padding. WINDOWS: layers x key-value heads, None = everything.
"""

import torch

SINK = {sink}
WINDOWS = [
{rows}
]


def mask_mod(layer, n_heads, device="cpu"):
    """The mask of a layer, for create_block_mask. n_heads: query heads of the model."""
    group = n_heads // len(WINDOWS[layer])
    if group * len(WINDOWS[layer]) != n_heads:
        raise ValueError(f"{{n_heads}} query heads cannot share {{len(WINDOWS[layer])}} key-value heads")
    most = torch.iinfo(torch.long).max
    recent = torch.tensor([most if w is None else w for w in WINDOWS[layer]], device=device).repeat_interleave(group)

    def mask(b, h, q, kv):
        return (kv <= q) & ((kv < SINK) | (q - kv < recent[h]))

    return mask
'''


def write(scores: HeadScores) -> Written:
    """The three files and their provenance. Raises BadInput for scores that are no windows of all heads."""
    found, sink, context = _windows(scores)
    table = [[None if w >= context else w for w in row] for row in found.tolist()]
    prune = np.where(found >= context, 0.0, 1 - np.minimum(sink + found, context) / context)
    rows = "\n".join(f"    {row}," for row in table)
    files = {
        FILE: (dumps({"sink_size": sink, "context": context, "windows": table}) + "\n").encode(),
        CURVES: curves_file(curves(prune)),
        MASK: CODE.format(sink=sink, rows=rows).encode(),
    }
    ratio = float(prune.mean())
    known = _about(scores, ratio, sink, context)
    return Written({**files, PROVENANCE: with_digests(known, files)})


def _about(scores: HeadScores, ratio: float, sink: int, context: int) -> dict[str, Any]:
    known, whole = about(scores), int((scores.values >= context).sum())
    use = (
        f'kvpress LUKVPress at compression_ratio={ratio:.4f}: press._budget_curves = numpy.load("FOLDER/{CURVES}"); '
        f'FlexAttention, from FOLDER: "from head_windows import mask_mod"'
    )
    rule = f"the smallest windows with a median output error <= {scores.parameters.get('tolerance', '?')}"
    return {
        "format": EXPORTER.name, "versions": versions(), "method": scores.method, "parameters": known["parameters"],
        "model": known["model"] or "unverified",
        "shape": {"layers": scores.n_layers, "kv_heads": scores.n_heads, "query_heads": None},
        "level": "kv", "kv_reduction": "none needed",
        "window": {"sink_size": sink},
        "cut": {"rule": rule, "whole": whole, "context": context, "kv_share": 1 - ratio, "unscored": 0},
        "validation": scores.parameters.get("checked", "not validated"),
        "notes": [f"{whole} of {scores.values.size} heads keep everything"], "use": use,
    }  # fmt: skip


def _windows(scores: HeadScores) -> tuple[Int[np.ndarray, "layers kv"], int, int]:
    """Windows, sink tokens, context."""
    if scores.method not in (METHOD, "imported/head-windows"):
        raise BadInput(
            f"format=head-windows takes windows in tokens, not {scores.method} scores: workbench fit-windows finds them"
        )
    sink, context = (scores.parameters.get(name) for name in ("sink_size", "context"))
    whole = scores.scored.all() and (scores.values == scores.values.round()).all() and scores.values.min() >= 1
    if not whole or type(sink) is not int or type(context) is not int or sink < 0 or context < 1:
        raise BadInput("the windows are damaged: whole tokens from 1 for every head, sink_size and context are needed")
    return scores.values.astype(int), sink, context


def read(path: Path, shape: Shape) -> HeadScores:
    """Windows as scores, `context` where a head keeps everything. Raises BadInput in one line."""
    held = read_json(path)
    if not isinstance(held, dict) or not isinstance(held.get("windows"), list):
        raise BadInput(f"{path} holds no windows: sink_size, context and windows are needed")
    sink, context, rows = held.get("sink_size"), held.get("context"), held["windows"]
    if type(sink) is not int or type(context) is not int or sink < 0 or context < 1:
        raise BadInput(f"{path}: sink_size and context must be whole numbers of tokens")
    for layer, row in enumerate(rows):
        if not isinstance(row, list) or not row or len(row) != len(rows[0]):
            raise BadInput(f"{path}: layer {layer} has not as many heads as layer 0")
        if not all(w is None or (type(w) is int and 0 < w < context) for w in row):
            raise BadInput(f"{path}: layer {layer} holds what is no window below {context} tokens, nor null")
    if not rows:
        raise BadInput(f"{path}: no layer in it")
    found = np.array([[context if w is None else w for w in row] for row in rows], dtype=float)
    facts = {"sink_size": sink, "context": context, "threshold": context}
    return HeadScores(found, "imported/head-windows", facts, kv_heads=found.shape[1])


EXPORTER = Exporter(
    name="head-windows",
    help="a window for every kv head, from fit-windows: as JSON, LU-KV curves, FlexAttention mask",
    marker=FILE,
    write=write,
    read=read,
)
